#include "resident_cut.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "at.hpp"

namespace tidemark::tide {

namespace {

constexpr std::size_t source = 0;
constexpr std::size_t sink = 1;
constexpr std::int32_t no_node = -1;
constexpr std::int32_t alive_anyway = -2;

}  // namespace

ResidentCut::ResidentCut(const StepGraph& graph, Position moment, Order order,
                         std::vector<Offload> offloads)
    : graph_(graph),
      moment_(moment),
      order_(order),
      offloads_(std::move(offloads)),
      is_offloaded_(at(graph.value_count()), 0),
      is_before_(at(graph.end()) + 1, 0),
      is_after_(at(graph.end()) + 1, 0),
      node_of_value_(at(graph.value_count()), no_node),
      node_of_operation_(at(graph.end()) + 1, no_node),
      cut_(2 + 2 * at(graph.value_count()) + at(graph.end()) + 1) {
  // Capacities are whole; the sum of a step's times and of its residents' prices stays clear of
  // overflow.
  const auto total = static_cast<double>(std::max<std::int64_t>(graph.total_nanoseconds(), 1));
  scale_ = std::exp2(std::floor(std::log2(0x1p40 / total)));
  for (const Offload& offload : offloads_) {
    if (offload.after >= moment || moment > offload.back) continue;
    is_offloaded_[at(offload.value)] = 1;
    const bool is_on_host = offload.freed <= moment && moment < offload.fetched;
    if (!is_on_host) fixed_bytes_ += graph.value(offload.value).bytes;
  }
  find_before_and_after(order);
  build();
}

// Before: whatever must have run for the moment's operator to run. After: whatever needs it to have
// run. Operators that are random or write state keep their order in every schedule.
void ResidentCut::find_before_and_after(Order order) {
  if (order == Order::recorded) {
    std::fill(is_before_.begin(), is_before_.begin() + moment_, 1);
    std::fill(is_after_.begin() + moment_ + 1, is_after_.end(), 1);
    return;
  }
  const std::vector<Position>& previous_ordered = graph_.previous_ordered();
  std::vector<char> reaches(is_before_.size(), 0);
  reaches[at(moment_)] = 1;
  for (Position p = moment_; p >= 0; --p) {
    if (reaches[at(p)] == 0) continue;
    is_before_[at(p)] = p == moment_ ? 0 : 1;
    graph_.for_each_predecessor(p, [&](Position q) { reaches[at(q)] = 1; });
    if (previous_ordered[at(p)] >= 0) reaches[at(previous_ordered[at(p)])] = 1;
  }
  std::fill(reaches.begin(), reaches.end(), 0);
  reaches[at(moment_)] = 1;
  for (Position p = moment_ + 1; p <= graph_.end(); ++p) {
    bool follows = p == graph_.end();
    if (!follows) {
      graph_.for_each_predecessor(p, [&](Position q) { follows = follows || reaches[at(q)] != 0; });
      const Position ordered = previous_ordered[at(p)];
      follows = follows || (ordered >= 0 && reaches[at(ordered)] != 0);
    }
    if (!follows) continue;
    reaches[at(p)] = 1;
    is_after_[at(p)] = 1;
  }
}

double ResidentCut::seconds_before() const {
  std::int64_t sum = 0;
  for (Position p = 0; p < graph_.end(); ++p) {
    if (is_before_[at(p)] != 0) sum += graph_.at(p).nanoseconds;
  }
  return static_cast<double>(sum) * 1e-9;
}

double ResidentCut::seconds_after() const {
  std::int64_t sum = graph_.at(moment_).nanoseconds;
  for (Position p = 0; p < graph_.end(); ++p) {
    if (is_after_[at(p)] != 0) sum += graph_.at(p).nanoseconds;
  }
  return static_cast<double>(sum) * 1e-9;
}

bool ResidentCut::may_run_again(Position x) const {
  const Position until =
      order_ == Order::any ? graph_.at(x).again_in_any_schedule_until : graph_.at(x).again_until;
  if (until < 0) return false;
  // The operator at `until` overwrites what x reads; x may run until that one has run.
  return until == graph_.end() || !(is_before_[at(until)] != 0 || until == moment_);
}

std::size_t ResidentCut::value_node(ValueId v) {
  std::int32_t& node = node_of_value_[at(v)];
  if (node == no_node) {
    node = static_cast<std::int32_t>(nodes_);
    nodes_ += 2;
    pending_values_.push_back(v);
  }
  return at(node);
}

std::size_t ResidentCut::operation_node(Position x) {
  std::int32_t& node = node_of_operation_[at(x)];
  if (node == no_node) {
    node = static_cast<std::int32_t>(nodes_++);
    pending_operations_.push_back(x);
  }
  return at(node);
}

// Resident, or its creator and the writers before the moment run again.
void ResidentCut::connect_value(ValueId v) {
  const std::size_t node = value_node(v);
  residencies_.push_back({v, cut_.add_edge(node, node + 1, 0)});
  const Value& value = graph_.value(v);
  bool may_be_made_again = may_run_again(value.creator);
  for (const Position writer : value.writers) {
    if (is_before_[at(writer)] != 0) may_be_made_again = may_be_made_again && may_run_again(writer);
  }
  if (!may_be_made_again) {
    cut_.add_edge(node + 1, sink, MinCut::unlimited);
    return;
  }
  cut_.add_edge(node + 1, operation_node(value.creator), MinCut::unlimited);
  for (const Position writer : value.writers) {
    if (is_before_[at(writer)] == 0) continue;
    cut_.add_edge(node + 1, operation_node(writer), MinCut::unlimited);
  }
}

void ResidentCut::connect_operation(Position x) {
  const Operation& operation = graph_.at(x);
  const std::size_t node = operation_node(x);
  cut_.add_edge(node, sink,
                static_cast<std::int64_t>(static_cast<double>(operation.nanoseconds) * scale_));
  for (const ValueId v : operation.operands) {
    const bool is_own = std::find(operation.overwrites.begin(), operation.overwrites.end(), v) !=
                        operation.overwrites.end();
    if (is_own || node_of_value_[at(v)] == alive_anyway) continue;
    cut_.add_edge(node, value_node(v), MinCut::unlimited);
  }
}

void ResidentCut::build() {
  const Operation& operation = graph_.at(moment_);
  fixed_bytes_ += graph_.static_bytes() + operation.workspace;
  for (const auto* values : {&operation.operands, &operation.creates}) {
    for (const ValueId v : *values) {
      if (is_offloaded_[at(v)] == 0) fixed_bytes_ += graph_.value(v).bytes;
      node_of_value_[at(v)] = alive_anyway;
    }
  }
  for (Position p = moment_ + 1; p <= graph_.end(); ++p) {
    if (is_after_[at(p)] == 0) continue;
    for (const ValueId v : graph_.at(p).operands) {
      const bool is_needed =
          is_before_[at(graph_.value(v).creator)] != 0 && node_of_value_[at(v)] == no_node;
      if (is_needed) cut_.add_edge(source, value_node(v), MinCut::unlimited);
    }
  }
  while (!pending_values_.empty() || !pending_operations_.empty()) {
    if (!pending_values_.empty()) {
      const ValueId v = pending_values_.back();
      pending_values_.pop_back();
      connect_value(v);
    } else {
      const Position x = pending_operations_.back();
      pending_operations_.pop_back();
      connect_operation(x);
    }
  }
}

ResidentCut::Answer ResidentCut::solve(double price, double tilt) {
  // No residency is worth more than running everything again.
  const auto most = static_cast<double>(graph_.total_nanoseconds()) * scale_ * 2 + 2;
  for (const Residency& residency : residencies_) {
    const Value& value = graph_.value(residency.value);
    if (is_offloaded_[at(residency.value)] != 0) continue;
    const double age = 1 - static_cast<double>(value.creator) / static_cast<double>(moment_ + 1);
    const double cost = price * static_cast<double>(value.bytes) * (1 + tilt * age);
    cut_.set_capacity(residency.edge, static_cast<std::int64_t>(std::min(cost, most)));
  }
  Answer answer{.value = cut_.solve(source, sink), .resident_bytes = 0};
  for (const Residency& residency : residencies_) {
    const ValueId v = residency.value;
    if (is_resident(v) && is_offloaded_[at(v)] == 0) answer.resident_bytes += graph_.value(v).bytes;
  }
  return answer;
}

bool ResidentCut::is_resident(ValueId v) const {
  const std::int32_t node = node_of_value_[at(v)];
  if (node == alive_anyway) return true;
  return node >= 0 && cut_.is_on_source_side(at(node)) && !cut_.is_on_source_side(at(node) + 1);
}

double ResidentCut::value_of(const Answer& answer, double price, Bytes budget) const {
  const auto free_bytes = static_cast<double>(budget - fixed_bytes_);
  const double value = (static_cast<double>(answer.value) - price * free_bytes) / scale_;
  // Sums of this size are exact to a few parts in 2^52.
  return value - static_cast<double>(graph_.total_nanoseconds()) * 1e-9;
}

double ResidentCut::highest_price() const {
  return static_cast<double>(graph_.total_nanoseconds()) * scale_ * 2 + 2;
}

// Prices of similar budgets are similar: the bracket starts at the last one.
bool ResidentCut::choose(Bytes budget) {
  constexpr double tilt = 0.1;
  constexpr double stride = 1.6;
  const Bytes free_bytes = budget - fixed_bytes_;
  const auto fits = [&](double price) { return solve(price, tilt).resident_bytes <= free_bytes; };
  if (free_bytes < 0) return false;
  if (chosen_price_ == 0)
    chosen_price_ = highest_price() / 64 / std::max(1.0, static_cast<double>(free_bytes));
  double high = chosen_price_;
  double low = high;
  if (fits(high)) {
    const double negligible = high * 1e-9;
    for (low = high / stride; low > negligible && fits(low); low /= stride) high = low;
  } else {
    for (high = low * stride; !fits(high); high *= stride) {
      if (high > highest_price()) return false;
      low = high;
    }
  }
  for (int halvings = 0; halvings < 6; ++halvings) {
    const double middle = low + (high - low) / 2;
    (fits(middle) ? high : low) = middle;
  }
  chosen_price_ = high;
  return fits(high);
}

double ResidentCut::bound_at(double price, Bytes budget) {
  return value_of(solve(price), price, budget);
}

std::optional<double> ResidentCut::bound(Bytes budget) {
  const Bytes free_bytes = budget - fixed_bytes_;
  if (free_bytes < 0) return std::nullopt;
  const double highest = highest_price();
  double low = 0;
  double high = highest / std::max(static_cast<double>(free_bytes), 1.0) / 64;
  double best = 0;
  while (true) {
    const Answer answer = solve(high);
    best = std::max(best, value_of(answer, high, budget));
    if (answer.resident_bytes <= free_bytes) break;
    if (high > highest) return std::nullopt;
    low = high;
    high *= 4;
  }
  for (int halvings = 0; halvings < 12 && high - low > high / 512; ++halvings) {
    const double middle = low + (high - low) / 2;
    const Answer answer = solve(middle);
    best = std::max(best, value_of(answer, middle, budget));
    (answer.resident_bytes <= free_bytes ? high : low) = middle;
  }
  fitting_price_ = high;
  return best;
}

}  // namespace tidemark::tide
