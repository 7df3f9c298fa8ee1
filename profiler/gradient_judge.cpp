#include "gradient_judge.hpp"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <utility>

namespace tidemark {

namespace {

// What does not repeat itself may lie this much further from the reference than unscheduled steps
// lie from each other, or by this part of its largest element; past both it is another value.
constexpr double far_beyond_replays = 100;
constexpr double far_beyond_value = 0.01;

template <typename Use>
void for_each_pair(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b,
                   ScalarType type, const Use& use) {
  const auto walk = [&](auto example) {
    using Value = decltype(example);
    for (std::size_t i = 0; i + sizeof(Value) <= a.size(); i += sizeof(Value)) {
      Value x{};
      Value y{};
      std::memcpy(&x, a.data() + i, sizeof(Value));
      std::memcpy(&y, b.data() + i, sizeof(Value));
      use(static_cast<double>(x), static_cast<double>(y));
    }
  };
  if (type == ScalarType::float64) return walk(double{});
  if (type == ScalarType::float16) return walk(c10::Half{});
  if (type == ScalarType::bfloat16) return walk(c10::BFloat16{});
  return walk(float{});
}

double largest_difference(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b,
                          ScalarType type) {
  double largest = 0;
  for_each_pair(a, b, type, [&](double x, double y) {
    if (std::isnan(x) != std::isnan(y)) largest = std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(x - y));
  });
  return largest;
}

double largest_value(const std::vector<std::uint8_t>& bytes, ScalarType type) {
  double largest = 0;
  for_each_pair(bytes, bytes, type,
                [&](double x, double) { largest = std::max(largest, std::abs(x)); });
  return largest;
}

std::string short_number(double value) {
  std::ostringstream text;
  text.precision(3);
  text << value;
  return text.str();
}

}  // namespace

// Some gradients that are other ones than the reference's: the first by name, and by how much.
struct GradientJudge::Differences {
  std::size_t count = 0;
  std::optional<StorageId> first;
  double largest = 0;

  void add(StorageId id, double difference) {
    if (count++ == 0) first = id;
    largest = std::max(largest, difference);
  }
};

bool is_worse(GradientVerdict verdict, GradientVerdict other) {
  const auto badness = [](GradientVerdict which) {
    if (which == GradientVerdict::differ) return 2;
    return which == GradientVerdict::not_comparable ? 1 : 0;
  };
  return badness(verdict) > badness(other);
}

GradientJudge::GradientJudge(const StepTrace& trace) : trace_(trace) {
  for (std::size_t i = 0; i < trace.gradients.size(); ++i) {
    gradient_at_.emplace(trace.gradients[i].second.storage, i);
  }
}

void GradientJudge::give_up(std::optional<std::string> reason) {
  given_up_ = GradientFinding{GradientVerdict::not_comparable, std::move(reason)};
}

void GradientJudge::add_replay(KeptBytes kept) {
  if (reference_.empty()) {
    reference_ = std::move(kept);
    return;
  }
  for (const auto& [id, bytes] : kept) {
    if (bytes == reference_.at(id)) continue;
    double& apart = unstable_[id];
    apart = std::max(apart, difference(id, bytes));
  }
}

GradientFinding GradientJudge::judge(const KeptBytes& kept) const {
  if (given_up_) return *given_up_;
  Differences wrong;
  Differences unstable;
  for (const auto& [id, bytes] : kept) {
    if (bytes == reference_.at(id)) continue;
    const double apart = difference(id, bytes);
    (unstable_.contains(id) && !is_far(id, apart) ? unstable : wrong).add(id, apart);
  }
  const std::string of = " of " + std::to_string(trace_.gradients.size()) + " gradients";
  if (wrong.count > 0) {
    const std::string name = name_of(*wrong.first);
    if (name.empty()) return {GradientVerdict::differ, "the loss differs"};
    return {GradientVerdict::differ, std::to_string(wrong.count) + of + " differ, first that of " +
                                         name + ", by up to " + short_number(wrong.largest)};
  }
  if (unstable_.empty()) return {};
  double apart = 0;
  std::size_t count = 0;
  std::string what = "the bits of the loss";
  for (const auto& [id, difference] : unstable_) {
    apart = std::max(apart, difference);
    const std::string name = name_of(id);
    if (!name.empty() && count++ == 0) what = of + ", first that of " + name + ",";
  }
  if (count > 0) what = std::to_string(count) + what;
  return {GradientVerdict::not_comparable,
          what +
              " differ between unscheduled steps too, since some kernels are not deterministic: "
              "there by up to " +
              short_number(apart) + ", under this schedule by up to " +
              short_number(unstable.largest) + "; all others are equal"};
}

double GradientJudge::difference(StorageId id, const std::vector<std::uint8_t>& bytes) const {
  const std::vector<std::uint8_t>& expected = reference_.at(id);
  if (bytes.size() != expected.size()) return std::numeric_limits<double>::infinity();
  return largest_difference(expected, bytes, type_of(id));
}

bool GradientJudge::is_far(StorageId id, double difference) const {
  const double value = largest_value(reference_.at(id), type_of(id));
  return difference > far_beyond_replays * unstable_.at(id) &&
         difference > far_beyond_value * value;
}

// Of the parameter; empty for the loss.
std::string GradientJudge::name_of(StorageId id) const {
  const auto found = gradient_at_.find(id);
  if (found == gradient_at_.end()) return "";
  return trace_.storages[index(trace_.gradients[found->second].first)].name;
}

ScalarType GradientJudge::type_of(StorageId id) const {
  const auto found = gradient_at_.find(id);
  if (found == gradient_at_.end()) return ScalarType::float32;  // the loss
  return trace_.gradients[found->second].second.dtype;
}

}  // namespace tidemark
