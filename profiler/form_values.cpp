#include "form_values.hpp"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "boxed_call.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {

namespace {

// Attention on a GPU makes room for the state of its dropout and leaves it undefined without one;
// with one it follows from the generator, which both forms start from.
bool may_be_undefined(const std::string& result) {
  static const std::set<std::string> names{"philox_seed", "philox_offset", "rng_state", "unused",
                                           "debug_attn_mask"};
  return names.contains(result);
}

std::set<StorageId> undefined_results(const Op& op) {
  std::set<StorageId> undefined;
  const auto found = c10::Dispatcher::singleton().findSchema({op.name, op.call->overload});
  if (!found) return undefined;
  const std::vector<c10::Argument>& returns = found->schema().returns();
  for (std::size_t i = 0; i < returns.size() && i < op.call->results.size(); ++i) {
    const auto* view = std::get_if<TensorView>(&op.call->results[i].value);
    if (view != nullptr && may_be_undefined(returns[i].name())) undefined.insert(view->storage);
  }
  return undefined;
}

// The plain step, each operator that has a second form run in it first.
class FormComparison {
 public:
  FormComparison(Backend& backend, const StepTrace& trace, const FillStorage& fill)
      : backend_(backend),
        trace_(trace),
        plain_(plain_schedule(trace)),
        statics_(backend, trace, fill),
        memory_(backend, trace, plain_, statics_),
        bound_(trace.storages.size(), nullptr) {}

  [[nodiscard]] std::set<OpId> find_equal() {
    const at::NoGradGuard no_grad;
    const at::AutoDispatchBelowAutograd below_autograd;
    statics_.restore();
    at::manual_seed(static_cast<std::uint64_t>(trace_.provenance.seed));
    for (const Step& step : plain_.steps) {
      if (const auto* run = std::get_if<Run>(&step.action)) {
        if (trace_.ops[index(run->op)].phase != Phase::forward) break;
        perform(*run);
      } else if (const auto* freed = std::get_if<Free>(&step.action)) {
        memory_.free(freed->instance);
      }
    }
    backend_.synchronize();
    return std::move(equal_);
  }

 private:
  using Results = std::vector<std::vector<std::uint8_t>>;

  void perform(const Run& run) {
    const Op& op = trace_.ops[index(run.op)];
    for (std::size_t i = 0; i < op.reads.size(); ++i) bind(op.reads[i], run.reads[i]);
    for (std::size_t i = 0; i < op.writes.size(); ++i) bind(op.writes[i], run.writes[i]);
    const bool has_form = op.no_grad && op.writes.empty();
    Results in_form;
    if (has_form) {
      const GeneratorState before = backend_.generator_state();
      call(run.op, Gradients::off);
      in_form = results_of(op);
      backend_.restore(before);
    }
    call(run.op, Gradients::on);
    if (has_form && in_form == results_of(op)) equal_.insert(run.op);
    for (std::size_t i = 0; i < op.creates.size(); ++i) {
      memory_.adopt(run.creates[i], std::move(made_[i]));
    }
    made_.clear();
    for (const StorageId id : op.reads) bound_[index(id)] = nullptr;
    for (const StorageId id : op.writes) bound_[index(id)] = nullptr;
  }

  void bind(StorageId id, InstanceId instance) { bound_[index(id)] = &memory_.storage(instance); }

  void call(OpId op, Gradients gradients) {
    const at::AutoGradMode as_recorded(gradients == Gradients::on);
    BoxedCall(trace_, op, gradients, backend_.device()).run(bound_, made_);
  }

  // Of what both forms make.
  [[nodiscard]] Results results_of(const Op& op) {
    const OpForm form = form_of(op, Gradients::off);
    const std::set<StorageId> undefined = undefined_results(op);
    Results results;
    for (std::size_t i = 0; i < op.creates.size(); ++i) {
      const bool is_compared = form.makes(op.creates[i]) && !undefined.contains(op.creates[i]);
      if (is_compared) results.push_back(bytes_of(backend_, made_[i]));
    }
    return results;
  }

  Backend& backend_;
  const StepTrace& trace_;
  Schedule plain_;
  StaticMemory statics_;
  ExecutionMemory memory_;
  std::vector<const c10::Storage*> bound_;  // by storage; only while an operator runs
  std::vector<c10::Storage> made_;
  std::set<OpId> equal_;
};

std::set<OpId> find_equal_forms(Backend& backend, const StepTrace& trace, const FillStorage& fill) {
  try {
    return FormComparison(backend, trace, fill).find_equal();
  } catch (const std::bad_alloc&) {
  } catch (const c10::OutOfMemoryError&) {
  }
  return {};
}

}  // namespace

std::optional<std::string> drop_unequal_forms(Backend& backend, StepTrace& trace,
                                              const FillStorage& fill) {
  const bool has_forms = std::any_of(trace.ops.begin(), trace.ops.end(),
                                     [](const Op& op) { return op.no_grad.has_value(); });
  if (!backend.computes() || !has_forms) return std::nullopt;
  const std::set<OpId> equal = find_equal_forms(backend, trace, fill);
  backend.empty_caches();
  std::set<std::string> names;
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    if (!trace.ops[o].no_grad || equal.contains(make_id<OpId>(o))) continue;
    trace.ops[o].no_grad.reset();
    names.insert(trace.ops[o].name);
  }
  if (names.empty()) return std::nullopt;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return "with gradients off, as the reentrant method first runs a segment, " + list +
         " may give other last bits than recorded and takes other memory; the rows are predicted "
         "and executed as recorded";
}

}  // namespace tidemark
