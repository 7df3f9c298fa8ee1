// The rules of a sound trace.
#include <algorithm>
#include <string>
#include <vector>

#include "tidemark/one_line.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

namespace {

// A damaged trace breaks every rule at once; a reader needs the first ones.
constexpr std::size_t most_sentences = 20;

class TraceChecker {
 public:
  explicit TraceChecker(const StepTrace& trace)
      : trace_(trace), creator_(trace.storages.size(), -1) {}

  std::vector<std::string> check() {
    check_storages();
    for (std::size_t o = 0; o < trace_.ops.size() && !is_full(); ++o) check_op(o);
    if (sentences_.empty()) check_lifetimes();
    check_modules();
    check_results();
    if (sentences_.size() > most_sentences) sentences_.resize(most_sentences);
    return std::move(sentences_);
  }

 private:
  [[nodiscard]] bool is_full() const { return sentences_.size() >= most_sentences; }
  void report(std::string sentence) { sentences_.push_back(std::move(sentence)); }

  [[nodiscard]] std::string title(std::size_t op) const {
    return "operator " + std::to_string(op) + " (" + trace_.ops[op].name + ")";
  }
  [[nodiscard]] static std::string number(StorageId id) {
    return "storage " + std::to_string(static_cast<std::int32_t>(id));
  }
  [[nodiscard]] bool is_known(StorageId id) const {
    return static_cast<std::int32_t>(id) >= 0 && index(id) < trace_.storages.size();
  }
  [[nodiscard]] bool is_op(OpId id) const {
    return static_cast<std::int32_t>(id) >= 0 && index(id) < trace_.ops.size();
  }

  void check_storages();
  void check_allocations(std::size_t o, const std::vector<AllocationEvent>& events);
  void check_op(std::size_t o);
  void check_form(std::size_t o, const OpForm& form);
  void check_no_grad(std::size_t o, const NoGradForm& form);
  void check_ids(std::size_t o, const std::vector<StorageId>& ids, const char* list);
  // `user`: "operator 3 (aten::mm) is called with".
  void check_view(const std::string& user, const TensorView& view);
  void check_value(std::size_t o, const CallValue& value);
  void check_modules();
  void check_lifetimes();
  void check_results();

  const StepTrace& trace_;
  std::vector<std::int32_t> creator_;
  std::vector<std::string> sentences_;
};

void TraceChecker::check_storages() {
  for (std::size_t s = 0; s < trace_.storages.size() && !is_full(); ++s) {
    const Storage& storage = trace_.storages[s];
    const std::string what = number(make_id<StorageId>(s));
    if (storage.bytes < 0) report(what + " has a negative size");
    if (storage.freed_after && !is_op(*storage.freed_after)) {
      report(what + " is freed after an operator that the trace does not list");
    }
    if (storage.value && static_cast<Bytes>(storage.value->size()) != storage.bytes) {
      report(what + " carries " + std::to_string(storage.value->size()) + " bytes of value for " +
             std::to_string(storage.bytes) + " bytes");
    }
  }
}

void TraceChecker::check_ids(std::size_t o, const std::vector<StorageId>& ids, const char* list) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!is_known(ids[i])) {
      report(title(o) + " " + list + " " + number(ids[i]) + ", which the trace does not list");
    } else if (std::find(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(i), ids[i]) !=
               ids.begin() + static_cast<std::ptrdiff_t>(i)) {
      report(title(o) + " " + list + " " + number(ids[i]) + " twice");
    }
  }
}

void TraceChecker::check_view(const std::string& user, const TensorView& view) {
  if (!is_known(view.storage)) {
    return report(user + " " + number(view.storage) + ", which the trace does not list");
  }
  std::int64_t last = view.offset;
  bool overflows = view.offset < 0;
  bool is_empty = false;
  for (std::size_t d = 0; d < view.sizes.size() && d < view.strides.size(); ++d) {
    std::int64_t reach = 0;
    is_empty = is_empty || view.sizes[d] == 0;
    overflows = overflows || view.sizes[d] < 0 || view.strides[d] < 0 ||
                __builtin_mul_overflow(view.sizes[d] - 1, view.strides[d], &reach) ||
                __builtin_add_overflow(last, reach, &last);
  }
  const Bytes elements = trace_.storages[index(view.storage)].bytes / element_bytes(view.dtype);
  if (overflows || view.sizes.size() != view.strides.size() || (!is_empty && last >= elements)) {
    report(user + " a tensor that reaches past the end of " + number(view.storage));
  }
}

void TraceChecker::check_value(std::size_t o, const CallValue& value) {
  if (const auto* view = std::get_if<TensorView>(&value.value)) {
    check_view(title(o) + " is called with", *view);
  }
  if (const auto* list = std::get_if<CallList>(&value.value)) {
    for (const CallValue& item : list->items) check_value(o, item);
  }
}

// Each is for a created storage or a temporary, and frees what it allocated before.
void TraceChecker::check_allocations(std::size_t o, const std::vector<AllocationEvent>& events) {
  const std::vector<StorageId>& creates = trace_.ops[o].creates;
  std::vector<char> is_alive(creates.size() + events.size(), 0);
  for (const AllocationEvent& event : events) {
    std::size_t place = 0;
    if (event.storage != no_storage) {
      const auto found = std::find(creates.begin(), creates.end(), event.storage);
      if (found == creates.end()) {
        return report(title(o) + " allocates for " + number(event.storage) +
                      ", which it does not create");
      }
      place = static_cast<std::size_t>(found - creates.begin());
    } else {
      if (event.temporary < 0 || static_cast<std::size_t>(event.temporary) >= events.size()) {
        return report(title(o) + " numbers its temporaries beyond the number of its allocations");
      }
      place = creates.size() + static_cast<std::size_t>(event.temporary);
    }
    if (event.bytes < 0) report(title(o) + " allocates a negative size");
    if ((is_alive[place] != 0) != event.is_free) {
      return report(title(o) + (event.is_free ? " frees what it has not allocated"
                                              : " allocates twice without a free between"));
    }
    is_alive[place] = event.is_free ? 0 : 1;
  }
}

void TraceChecker::check_op(std::size_t o) {
  const Op& op = trace_.ops[o];
  check_ids(o, op.reads, "reads");
  check_ids(o, op.writes, "writes");
  check_ids(o, op.creates, "creates");
  if (op.duration.count() < 0) report(title(o) + " has a negative duration");
  if (o > 0 && op.phase < trace_.ops[o - 1].phase) {
    report(title(o) + " belongs to an earlier phase than the operator before it");
  }
  for (const StorageId id : op.creates) {
    if (!is_known(id)) continue;
    if (creator_[index(id)] >= 0) {
      report(title(o) + " creates " + number(id) + ", which " +
             title(static_cast<std::size_t>(creator_[index(id)])) + " created before");
    }
    creator_[index(id)] = static_cast<std::int32_t>(o);
  }
  for (const OpId id : op.forward_ops) {
    if (!is_op(id) || trace_.ops[index(id)].phase != Phase::forward) {
      report(title(o) + " is the derivative of something that is no forward operator");
    }
  }
  check_form(o, form_of(op, Gradients::on));
  if (op.no_grad) check_no_grad(o, *op.no_grad);
}

void TraceChecker::check_form(std::size_t o, const OpForm& form) {
  if (form.workspace_bytes < 0) report(title(o) + " has a negative workspace");
  if (form.allocations) check_allocations(o, *form.allocations);
  if (!form.call) return;
  for (const CallValue& value : form.call->arguments) check_value(o, value);
  for (const CallValue& value : form.call->results) check_value(o, value);
}

void TraceChecker::check_no_grad(std::size_t o, const NoGradForm& form) {
  const Op& op = trace_.ops[o];
  if (op.phase != Phase::forward) {
    report(title(o) + " has a form with gradients off, though it is no forward operator");
  }
  check_form(o, form_of(op, Gradients::off));
  for (const StorageId id : form.omits) {
    if (std::find(op.creates.begin(), op.creates.end(), id) == op.creates.end()) {
      report(title(o) + " omits " + number(id) + " with gradients off, which it does not create");
    }
  }
}

// Nothing is used before it is created or after it is freed.
void TraceChecker::check_lifetimes() {
  for (std::size_t o = 0; o < trace_.ops.size() && !is_full(); ++o) {
    const auto check = [&](StorageId id) {
      if (creator_[index(id)] >= static_cast<std::int32_t>(o)) {
        report(title(o) + " uses " + number(id) + " before it is created");
      }
      const auto freed = trace_.storages[index(id)].freed_after;
      if (freed && index(*freed) < o)
        report(title(o) + " uses " + number(id) + " after it is freed");
    };
    std::for_each(trace_.ops[o].reads.begin(), trace_.ops[o].reads.end(), check);
    std::for_each(trace_.ops[o].writes.begin(), trace_.ops[o].writes.end(), check);
    for (const StorageId id : trace_.ops[o].creates) {
      const auto freed = trace_.storages[index(id)].freed_after;
      if (freed && index(*freed) < o) report(number(id) + " is freed before it is created");
    }
  }
}

void TraceChecker::check_modules() {
  for (const Module& module : trace_.modules) {
    if (is_full()) return;
    for (const HandedTensor& input : module.inputs) {
      check_view("module " + one_line(beginning(module.path)) + " is given", input.view);
    }
  }
}

void TraceChecker::check_results() {
  const auto check = [&](StorageId id, const std::string& what) {
    if (!is_known(id)) report(what + " names " + number(id) + ", which the trace does not list");
  };
  for (const StorageId id : trace_.keep) check(id, "keep");
  for (const StorageId id : trace_.outputs) check(id, "outputs");
  if (trace_.loss) check(*trace_.loss, "loss");
  for (const auto& [parameter, view] : trace_.gradients) {
    check(parameter, "a gradient");
    check_view("a gradient names", view);
  }
  for (const StorageId id : trace_.keep) {
    if (is_known(id) && creator_[index(id)] >= 0 && trace_.storages[index(id)].freed_after) {
      report(number(id) + " is kept to the end and freed before it");
    }
  }
}

}  // namespace

std::vector<std::string> check_trace(const StepTrace& trace) { return TraceChecker(trace).check(); }

}  // namespace tidemark
