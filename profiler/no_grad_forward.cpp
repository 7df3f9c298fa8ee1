#include "no_grad_forward.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "call_values.hpp"

namespace tidemark {

namespace {

StepTrace record_no_grad(Backend& backend, EagerStep& step,
                         const std::vector<StaticTensor>& statics) {
  step.reset();
  StepRecorder recorder(backend, statics, [&] { return step.current_node(); });
  Interpreter::Result result = step.forward(Gradients::off);
  recorder.mark_loss(result.loss);
  result = {};
  return recorder.finish();
}

std::string place_of(const Op& op) {
  return op.name + (op.module.empty() ? "" : " in " + op.module);
}

std::vector<TensorView> views_of(const std::vector<CallValue>& values) {
  std::vector<TensorView> views;
  for (const CallValue& value : values) {
    for_each_view(value, [&](const TensorView& view) { views.push_back(view); });
  }
  return views;
}

// Walks both forwards side by side and translates the second one's storages into the first one's.
//
//   recorded        attention: q7 k8 v9 -> out10, lse11
//   gradients off   attention: q5 k6 v7 -> out8         5 -> 7, 6 -> 8, 7 -> 9, 8 -> 10; omits 11
class FormMatcher {
 public:
  FormMatcher(StepTrace& recorded, const StepTrace& other) : recorded_(recorded), other_(other) {
    std::map<std::string, StorageId> named;
    for (std::size_t s = 0; s < recorded.storages.size(); ++s) {
      const std::string& name = recorded.storages[s].name;
      if (!name.empty()) named[name] = make_id<StorageId>(s);
    }
    for (std::size_t s = 0; s < other.storages.size(); ++s) {
      const auto found = named.find(other.storages[s].name);
      if (found != named.end()) translated_[make_id<StorageId>(s)] = found->second;
    }
    is_static_ = static_storages(other);
  }

  // False where the operators at this position are not the same operator on the same storages.
  [[nodiscard]] bool match(std::size_t position) {
    Op& op = recorded_.ops[position];
    Op other = other_.ops[position];
    const bool is_same = op.name == other.name && op.call->overload == other.call->overload;
    if (!is_same || !translate_arguments(op, other)) return false;
    if (other.reads != op.reads || other.writes != op.writes) return false;
    NoGradForm form{.omits = {},
                    .workspace_bytes = other.workspace_bytes,
                    .allocations = std::move(*other.allocations),
                    .call = std::move(*other.call)};
    translate_results(op, other.creates, form);
    if (differs(op, form)) op.no_grad = std::move(form);
    return true;
  }

 private:
  [[nodiscard]] bool translate(StorageId& id) const {
    const auto found = translated_.find(id);
    if (found == translated_.end()) return false;
    id = found->second;
    return true;
  }

  // A constant has no name: it is known by its place among the arguments.
  void learn_constants(const Op& op, const Op& other) {
    const std::vector<TensorView> theirs = views_of(other.call->arguments);
    const std::vector<TensorView> ours = views_of(op.call->arguments);
    if (theirs.size() != ours.size()) return;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      if (is_static_[index(theirs[i].storage)]) {
        translated_.try_emplace(theirs[i].storage, ours[i].storage);
      }
    }
  }

  [[nodiscard]] bool translate_arguments(const Op& op, Op& other) {
    learn_constants(op, other);
    bool is_known = true;
    const auto take = [&](StorageId& id) { is_known = translate(id) && is_known; };
    for (CallValue& value : other.call->arguments) {
      for_each_view(value, [&](TensorView& view) { take(view.storage); });
    }
    std::for_each(other.reads.begin(), other.reads.end(), take);
    std::for_each(other.writes.begin(), other.writes.end(), take);
    return is_known;
  }

  // What is made alike stands for the recorded result; the rest is the call's own.
  void translate_results(const Op& op, const std::vector<StorageId>& created, NoGradForm& form) {
    std::vector<StorageId> made;
    const std::vector<CallValue>& recorded = op.call->results;
    std::vector<CallValue>& results = form.call->results;
    for (std::size_t i = 0; i < results.size() && i < recorded.size(); ++i) {
      pair_result(op, created, recorded[i], results[i], made);
    }
    for (const StorageId id : op.creates) {
      if (std::find(made.begin(), made.end(), id) == made.end()) form.omits.push_back(id);
    }
    std::int32_t temporaries = 0;
    for (const AllocationEvent& event : *form.allocations) {
      temporaries = std::max(temporaries, event.temporary + 1);
    }
    for (const StorageId id : created) {
      if (translated_.contains(id)) continue;
      form.workspace_bytes += other_.storages[index(id)].bytes;
      rename(*form.allocations, id, no_storage, temporaries++);
    }
    for (AllocationEvent& event : *form.allocations) {
      if (event.storage != no_storage && event.temporary < 0) (void)translate(event.storage);
    }
  }

  void pair_result(const Op& op, const std::vector<StorageId>& created, const CallValue& recorded,
                   CallValue& result, std::vector<StorageId>& made) {
    const auto* our_list = std::get_if<CallList>(&recorded.value);
    if (auto* list = std::get_if<CallList>(&result.value)) {
      for (std::size_t i = 0; i < list->items.size(); ++i) {
        const bool has_ours = our_list != nullptr && i < our_list->items.size();
        pair_result(op, created, has_ours ? our_list->items[i] : CallValue{}, list->items[i], made);
      }
      return;
    }
    auto* view = std::get_if<TensorView>(&result.value);
    if (view == nullptr) return;
    const auto* ours = std::get_if<TensorView>(&recorded.value);
    const bool is_created =
        std::find(created.begin(), created.end(), view->storage) != created.end();
    if (is_created && ours != nullptr && is_alike(op, *ours, view->storage)) {
      translated_[view->storage] = ours->storage;
      made.push_back(ours->storage);
    }
    if (!translate(view->storage)) result.value = NullValue{};
  }

  [[nodiscard]] bool is_alike(const Op& op, const TensorView& ours, StorageId theirs) const {
    return std::find(op.creates.begin(), op.creates.end(), ours.storage) != op.creates.end() &&
           recorded_.storages[index(ours.storage)].bytes == other_.storages[index(theirs)].bytes;
  }

  static void rename(std::vector<AllocationEvent>& events, StorageId from, StorageId to,
                     std::int32_t temporary) {
    for (AllocationEvent& event : events) {
      if (event.storage != from) continue;
      event.storage = to;
      event.temporary = temporary;
    }
  }

  // On a CPU threads allocate in any order; only what they take together counts.
  [[nodiscard]] bool differs(const Op& op, const NoGradForm& form) const {
    const bool is_ordered = recorded_.device.kind != DeviceKind::cpu;
    return !form.omits.empty() || form.workspace_bytes != op.workspace_bytes ||
           form.call != op.call || (is_ordered && form.allocations != op.allocations);
  }

  StepTrace& recorded_;
  const StepTrace& other_;
  std::map<StorageId, StorageId> translated_;
  std::vector<bool> is_static_;  // of the second forward
};

}  // namespace

std::optional<std::string> record_no_grad_forms(Backend& backend, EagerStep& step,
                                                const std::vector<StaticTensor>& statics,
                                                StepTrace& recorded) {
  const StepTrace other = record_no_grad(backend, step, statics);
  step.reset();
  const std::string begin = "with gradients off, as the reentrant method first runs a segment, ";
  const std::string end = "; from there on its rows are predicted and executed as recorded";
  FormMatcher matcher(recorded, other);
  for (std::size_t o = 0; o < recorded.ops.size(); ++o) {
    const Op& op = recorded.ops[o];
    if (op.phase != Phase::forward) break;
    if (o >= other.ops.size()) return begin + "the forward ends before " + place_of(op) + end;
    if (matcher.match(o)) continue;
    return begin + other.ops[o].name + " runs on other tensors or in the place of " + place_of(op) +
           end;
  }
  return std::nullopt;
}

}  // namespace tidemark
