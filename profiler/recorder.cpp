#include "recorder.hpp"

#include <ATen/SequenceNumber.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "call_values.hpp"
#include "counting_allocator.hpp"
#include "operator_rules.hpp"
#include "recorded_call.hpp"
#include "storage_table.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

// Integer and truth values steer indices, so a trace carries them, up to this size each.
constexpr Bytes largest_kept_value = Bytes{64} << 20;

void add_once(std::vector<StorageId>& list, StorageId id) {
  if (std::find(list.begin(), list.end(), id) == list.end()) list.push_back(id);
}

bool holds(const std::vector<StorageId>& list, StorageId id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

// How many leading components two module paths share.
std::size_t shared_components(std::string_view a, std::string_view b) {
  std::size_t shared = 0;
  while (!a.empty() && !b.empty()) {
    const std::string_view first_a = a.substr(0, a.find('.'));
    const std::string_view first_b = b.substr(0, b.find('.'));
    if (first_a != first_b) break;
    ++shared;
    a.remove_prefix(std::min(a.size(), first_a.size() + 1));
    b.remove_prefix(std::min(b.size(), first_b.size() + 1));
  }
  return shared;
}

// The forward call that made an autograd node.
struct NodeOrigin {
  std::size_t position = 0;  // how many operators were listed before it
  bool is_listed = false;    // false: it only made views
  std::string module;
  std::string source;
};

struct NodeScope final : at::ObserverContext {
  explicit NodeScope(std::size_t listed_before) : listed(listed_before) {}
  std::size_t listed;  // operators before the node ran
};

}  // namespace

class StepRecorder::Recording final : public AllocationObserver {
 public:
  Recording(Backend& backend, const std::vector<StaticTensor>& static_tensors,
            CurrentNode current_node);
  ~Recording() override;

  void on_allocate(const void* data, Bytes bytes, WorkerId worker) override;
  void on_free(const void* data, Bytes bytes) override;

  void set_phase(Phase phase) { phase_ = phase; }
  void mark_loss(const at::Tensor& loss);
  void mark_output(const at::Tensor& output);
  void mark_gradient(const at::Tensor& parameter, const at::Tensor& gradient);
  StepTrace finish();

 private:
  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function);
  static void end(const at::RecordFunction& function, at::ObserverContext* context);
  std::unique_ptr<at::ObserverContext> begin_call(const at::RecordFunction& function);
  void read_arguments(OpenCall& call, const c10::OperatorHandle& op,
                      c10::ArrayRef<const c10::IValue> arguments);
  void note_node(OpenCall& call);
  void note_handed(const std::vector<Module>& stack, c10::ArrayRef<const c10::IValue> arguments);
  void note_made(const Node& node, const std::vector<c10::IValue>& results);
  void end_call(OpenCall& call, const at::RecordFunction& function);
  void read_results(OpenCall& call, const std::vector<c10::IValue>& results);
  void note_forward(const OpenCall& call, bool is_listed);
  void note_backward(OpenCall& call);
  [[nodiscard]] std::optional<std::size_t> nearest_listed(const NodeOrigin& origin) const;
  void note_statistics();
  void free_after(const std::vector<StorageId>& freed, std::size_t listed);
  void drop_unused_constants();
  const OperatorRules& rules_of(const c10::OperatorHandle& op);

  void stop_observing();

  // Storages in the host's memory that a GPU's step uses: their blocks are no operator's memory.
  class HostObserver final : public AllocationObserver {
   public:
    explicit HostObserver(Recording& recording) : recording_(recording) {}
    void on_allocate(const void*, Bytes, WorkerId) override {}
    void on_free(const void* data, Bytes) override { (void)recording_.forget(data); }

   private:
    Recording& recording_;
  };
  [[nodiscard]] bool forget(const void* data);

  // RecordFunction takes plain functions. Not by thread: backward runs on autograd's own threads.
  static Recording* active;

  Backend& backend_;
  HostObserver host_observer_{*this};
  StorageTable table_;
  CurrentNode current_node_;
  StepTrace trace_;
  Phase phase_ = Phase::forward;
  OpenCall* innermost_ = nullptr;
  bool is_ours_ = false;  // what runs now is the recorder's own
  std::vector<std::uint64_t> running_nodes_;
  // The node that returned last, if it ran no operator: what the engine then adds up is its.
  std::optional<std::uint64_t> silent_node_;
  std::unordered_map<std::uint64_t, NodeOrigin> origins_;
  std::unordered_map<c10::OperatorName, OperatorRules> rules_;
  const Node* last_node_ = nullptr;
  std::string last_source_;
  std::unordered_map<std::string, std::size_t> module_at_;  // by path, in the trace's modules
  // The modules in which each tensor of the program was made.
  std::unordered_map<const c10::TensorImpl*, const std::vector<Module>*> made_in_;
  std::string failure_;
  at::CallbackHandle callback_ = 0;
};

StepRecorder::Recording* StepRecorder::Recording::active = nullptr;

// ---- beginning -------------------------------------------------------------------------------

StepRecorder::Recording::Recording(Backend& backend,
                                   const std::vector<StaticTensor>& static_tensors,
                                   CurrentNode current_node)
    : backend_(backend), table_(backend), current_node_(std::move(current_node)) {
  for (const StaticTensor& entry : static_tensors) {
    if (table_.find(entry.tensor)) continue;
    const StorageId id = table_.add(entry.tensor, entry.role);
    Storage& storage = table_[id];
    storage.name = entry.name;
    const bool is_counter = entry.role == Role::optimizer_state && entry.tensor.dim() == 0;
    const bool steers = at::isIntegralType(entry.tensor.scalar_type(), /*includeBool=*/true);
    if ((steers || is_counter) && storage.bytes <= largest_kept_value) {
      storage.value = bytes_of(backend_, entry.tensor.storage());
    }
  }
  active = this;
  if (!backend_.device().is_cpu()) CountingAllocator::install().set_observer(&host_observer_);
  backend_.meter().set_observer(this);
  callback_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&Recording::begin, &Recording::end)
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

StepRecorder::Recording::~Recording() {
  if (active == this) stop_observing();
}

void StepRecorder::Recording::stop_observing() {
  at::removeCallback(callback_);
  backend_.meter().set_observer(nullptr);
  CountingAllocator::install().set_observer(nullptr);
  active = nullptr;
}

std::unique_ptr<at::ObserverContext> StepRecorder::Recording::begin(
    const at::RecordFunction& function) {
  if (active == nullptr || active->is_ours_) return nullptr;
  if (function.scope() == at::RecordScope::BACKWARD_FUNCTION) {
    active->running_nodes_.push_back(static_cast<std::uint64_t>(function.seqNr()));
    return std::make_unique<NodeScope>(active->trace_.ops.size());
  }
  return active->begin_call(function);
}

void StepRecorder::Recording::end(const at::RecordFunction& function,
                                  at::ObserverContext* context) {
  if (active == nullptr || context == nullptr) return;
  if (const auto* scope = dynamic_cast<NodeScope*>(context)) {
    active->silent_node_.reset();
    if (scope->listed == active->trace_.ops.size()) {
      active->silent_node_ = active->running_nodes_.back();
    }
    active->running_nodes_.pop_back();
    return;
  }
  active->end_call(*static_cast<OpenCall*>(context), function);
}

const OperatorRules& StepRecorder::Recording::rules_of(const c10::OperatorHandle& op) {
  return rules_.try_emplace(op.operator_name(), op).first->second;
}

// ---- a call ----------------------------------------------------------------------------------

std::unique_ptr<at::ObserverContext> StepRecorder::Recording::begin_call(
    const at::RecordFunction& function) {
  const std::optional<c10::OperatorName> name = function.operator_name();
  const c10::DispatchKeySet excluded = c10::impl::tls_local_dispatch_key_set().excluded_;
  if (!name || excluded.has(c10::DispatchKey::AutogradFunctionality)) return nullptr;
  const std::optional<c10::OperatorHandle> op = c10::Dispatcher::singleton().findOp(*name);
  if (!op) return nullptr;
  for (OpenCall* caller = innermost_; caller != nullptr; caller = caller->caller) {
    // An operator without a composite form has a kernel of its own, whatever its autograd part
    // calls on the way: in-place activations clone the values that they are about to overwrite.
    if (!caller->has_composite_form) continue;
    caller->calls_above_autograd = true;
    free_after(std::exchange(caller->freed, {}), trace_.ops.size());
  }

  auto call = std::make_unique<OpenCall>();
  call->schema = &op->schema();
  call->op.name = name->name;
  call->op.phase = phase_;
  call->op.call.emplace().overload = name->overload_name;
  call->has_composite_form =
      op->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
  call->caller = innermost_;
  call->first_node = at::sequence_number::peek();
  call->backward_of = running_nodes_.empty() ? silent_node_ : running_nodes_.back();
  note_node(*call);
  read_arguments(*call, *op, function.inputs());
  innermost_ = call.get();
  return call;
}

void StepRecorder::Recording::note_node(OpenCall& call) {
  const Node* node = current_node_ && phase_ == Phase::forward ? current_node_() : nullptr;
  if (node == nullptr) return;
  if (node != last_node_) {
    last_node_ = node;
    last_source_ = innermost_source_line(node->stack_trace);
    for (const Module& module : node->module_stack) {
      const bool is_new = module_at_.emplace(module.path, trace_.modules.size()).second;
      if (is_new) trace_.modules.push_back(module);
    }
  }
  if (innermost_ == nullptr) call.node = node;
  if (!node->module_stack.empty()) call.op.module = node->module_stack.back().path;
  call.op.source = last_source_;
}

// Whatever a node takes that was made outside a module, and not made to belong to it, the module
// was given.
void StepRecorder::Recording::note_handed(const std::vector<Module>& stack,
                                          c10::ArrayRef<const c10::IValue> arguments) {
  const auto note = [&](const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return;
    const std::optional<StorageId> id = table_.find(tensor);
    const auto maker = made_in_.find(tensor.unsafeGetTensorImpl());
    if (!id) return;
    const Role role = table_[*id].role;
    const bool belongs = role == Role::parameter || role == Role::buffer || role == Role::constant;
    if (maker == made_in_.end() && belongs) return;
    const HandedTensor handed{.view = view_of(tensor, *id), .is_view = tensor.is_view()};
    for (const Module& module : stack) {
      const auto is_it = [&](const Module& other) { return other.path == module.path; };
      const bool is_inside = maker != made_in_.end() &&
                             std::any_of(maker->second->begin(), maker->second->end(), is_it);
      if (is_inside) continue;
      std::vector<HandedTensor>& inputs = trace_.modules[module_at_.at(module.path)].inputs;
      if (std::find(inputs.begin(), inputs.end(), handed) == inputs.end()) inputs.push_back(handed);
    }
  };
  for (const c10::IValue& argument : arguments) for_each_tensor(argument, note);
}

void StepRecorder::Recording::note_made(const Node& node, const std::vector<c10::IValue>& results) {
  for (const c10::IValue& result : results) {
    for_each_tensor(result, [&](const at::Tensor& tensor) {
      if (tensor.defined()) made_in_[tensor.unsafeGetTensorImpl()] = &node.module_stack;
    });
  }
}

void StepRecorder::Recording::read_arguments(OpenCall& call, const c10::OperatorHandle& op,
                                             c10::ArrayRef<const c10::IValue> arguments) {
  const OperatorRules& rules = rules_of(op);
  call.is_host_sync = rules.is_host_sync();
  if (rules.may_be_random()) call.generator = backend_.generator_state();
  const std::vector<ArgumentUse> uses = rules.uses(arguments);
  bool writes_statistics_only = true;
  is_ours_ = true;
  // Exceptions do not leave an observer: PyTorch would only log them.
  try {
    if (call.node != nullptr) note_handed(call.node->module_stack, arguments);
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      call.op.call->arguments.push_back(
          to_call_value(arguments[i], *call.schema->arguments()[i].real_type(),
                        [&](const at::Tensor& tensor) { return table_.number_of(tensor); }));
      for_each_view(std::as_const(call.op.call->arguments.back()), [&](const TensorView& view) {
        if (table_[view.storage].bytes == 0) return;
        if (uses[i].reads) add_once(call.op.reads, view.storage);
        if (!uses[i].writes) return;
        add_once(call.op.writes, view.storage);
        writes_statistics_only = writes_statistics_only && uses[i].is_statistic;
      });
    }
  } catch (const std::exception& error) {
    call.failure = error.what();
  }
  is_ours_ = false;
  call.op.flags.statistics = !call.op.writes.empty() && writes_statistics_only;
}

void StepRecorder::Recording::end_call(OpenCall& call, const at::RecordFunction& function) {
  innermost_ = call.caller;
  if (call.node != nullptr) note_made(*call.node, function.outputs());
  if (call.calls_above_autograd) return;
  is_ours_ = true;
  try {
    read_results(call, function.outputs());
  } catch (const std::exception& error) {
    if (call.failure.empty()) call.failure = error.what();
  }
  is_ours_ = false;
  call.op.flags.host_sync = call.is_host_sync;
  const bool is_listed =
      !call.op.creates.empty() || !call.op.writes.empty() || call.op.flags.host_sync;
  if (phase_ == Phase::forward) note_forward(call, is_listed);
  if (!is_listed) {
    free_after(call.freed, trace_.ops.size());
    return;
  }
  if (phase_ == Phase::backward) note_backward(call);
  if (call.generator) call.op.flags.random = !call.generator->is_same(backend_.generator_state());
  if (!call.failure.empty() && failure_.empty()) {
    failure_ = call.op.name + (call.op.module.empty() ? "" : " in " + call.op.module) +
               (call.op.source.empty() ? "" : " (" + call.op.source + ")") +
               " cannot be recorded: " + call.failure;
  }
  trace_.ops.push_back(std::move(call.op));
  free_after(call.freed, trace_.ops.size());
}

void StepRecorder::Recording::read_results(OpenCall& call,
                                           const std::vector<c10::IValue>& results) {
  std::unordered_map<const void*, StorageId> created;
  Bytes created_bytes = 0;
  const auto number = [&](const at::Tensor& tensor) {
    if (const std::optional<StorageId> known = table_.find(tensor)) return *known;
    const StorageId id = table_.add(tensor, Role::activation);
    call.op.creates.push_back(id);
    created[tensor.storage().data()] = id;
    created_bytes += table_[id].bytes;
    return id;
  };
  const std::vector<c10::Argument>& returns = call.schema->returns();
  for (std::size_t i = 0; i < results.size() && i < returns.size(); ++i) {
    call.op.call->results.push_back(to_call_value(results[i], *returns[i].real_type(), number));
  }
  CallMemory memory = call_memory(call.events, created, created_bytes);
  call.op.workspace_bytes = memory.workspace_bytes;
  call.op.allocations = std::move(memory.allocations);
}

// ---- which forward operators a backward operator belongs to ------------------------------------

void StepRecorder::Recording::note_forward(const OpenCall& call, bool is_listed) {
  for (std::uint64_t node = call.first_node; node < at::sequence_number::peek(); ++node) {
    origins_[node] = {.position = trace_.ops.size(),
                      .is_listed = is_listed,
                      .module = call.op.module,
                      .source = call.op.source};
  }
}

void StepRecorder::Recording::note_backward(OpenCall& call) {
  if (!call.backward_of) return;
  const auto found = origins_.find(*call.backward_of);
  if (found == origins_.end()) return;
  call.op.module = found->second.module;
  call.op.source = found->second.source;
  if (const std::optional<std::size_t> forward = nearest_listed(found->second)) {
    call.op.forward_ops = {make_id<OpId>(*forward)};
  }
}

// A view is no operator of the trace: the one before or after it in the same module stands for it.
std::optional<std::size_t> StepRecorder::Recording::nearest_listed(const NodeOrigin& origin) const {
  if (origin.is_listed) return origin.position;
  const auto closeness = [&](std::size_t op) {
    return shared_components(origin.module, trace_.ops[op].module);
  };
  const bool has_before = origin.position > 0;
  const bool has_after =
      origin.position < trace_.ops.size() && trace_.ops[origin.position].phase == Phase::forward;
  if (!has_before && !has_after) return std::nullopt;
  if (!has_before) return origin.position;
  if (!has_after) return origin.position - 1;
  return closeness(origin.position) > closeness(origin.position - 1) ? origin.position
                                                                     : origin.position - 1;
}

// ---- memory ----------------------------------------------------------------------------------

void StepRecorder::Recording::on_allocate(const void* data, Bytes bytes, WorkerId worker) {
  if (innermost_ == nullptr || innermost_->calls_above_autograd) return;
  innermost_->events.push_back({.is_free = false, .data = data, .bytes = bytes, .worker = worker});
}

void StepRecorder::Recording::on_free(const void* data, Bytes bytes) {
  if (forget(data) || innermost_ == nullptr || innermost_->calls_above_autograd) return;
  innermost_->events.push_back({.is_free = true, .data = data, .bytes = bytes});
}

// Whether it was a storage's block that is freed.
bool StepRecorder::Recording::forget(const void* data) {
  const std::optional<StorageId> id = table_.forget(data);
  if (!id) return false;
  if (innermost_ != nullptr && !innermost_->calls_above_autograd) {
    innermost_->freed.push_back(*id);
  } else {
    free_after({*id}, trace_.ops.size());
  }
  return true;
}

// Static storages and constants are never freed by a step.
void StepRecorder::Recording::free_after(const std::vector<StorageId>& freed, std::size_t listed) {
  for (const StorageId id : freed) {
    const Role role = table_[id].role;
    if (listed == 0 || role != Role::activation) continue;
    table_[id].freed_after = make_id<OpId>(listed - 1);
  }
}

// ---- ending ----------------------------------------------------------------------------------

void StepRecorder::Recording::mark_loss(const at::Tensor& loss) {
  trace_.loss = table_.number_of(loss);
  add_once(trace_.keep, *trace_.loss);
}

void StepRecorder::Recording::mark_output(const at::Tensor& output) {
  const StorageId id = table_.number_of(output);
  const bool is_static = table_[id].role != Role::activation;
  if (!is_static && trace_.loss != id) add_once(trace_.outputs, id);
}

void StepRecorder::Recording::mark_gradient(const at::Tensor& parameter,
                                            const at::Tensor& gradient) {
  const StorageId id = table_.number_of(gradient);
  if (table_[id].role == Role::activation) table_[id].role = Role::gradient;
  add_once(trace_.keep, id);
  trace_.gradients.emplace_back(table_.number_of(parameter), view_of(gradient, id));
}

// num_batches_tracked.add_(1): a count of calls that nothing in the step depends on.
void StepRecorder::Recording::note_statistics() {
  const auto is_counter = [&](StorageId id) {
    const Storage& storage = table_[id];
    return storage.role == Role::buffer && storage.value.has_value() && storage.bytes == 8;
  };
  for (Op& op : trace_.ops) {
    if (op.name != "aten::add_" || op.phase != Phase::forward || op.writes.size() != 1) continue;
    const StorageId id = op.writes.front();
    const bool is_read_elsewhere =
        std::any_of(trace_.ops.begin(), trace_.ops.end(), [&](const Op& other) {
          return other.phase == Phase::forward && holds(other.reads, id) &&
                 !(other.name == op.name && holds(other.writes, id));
        });
    if (is_counter(id) && !is_read_elsewhere) op.flags.statistics = true;
  }
}

// Constants that only views or composite calls met. Numbers close up behind them.
void StepRecorder::Recording::drop_unused_constants() {
  std::vector<char> is_used(table_.storages().size(), 0);
  for (std::size_t s = 0; s < is_used.size(); ++s) {
    const Storage& storage = table_.storages()[s];
    is_used[s] = storage.role == Role::constant && storage.name.empty() ? 0 : 1;
  }
  const auto mark = [&](const TensorView& view) { is_used[index(view.storage)] = 1; };
  for (const Op& op : trace_.ops) {
    for (const CallValue& value : op.call->arguments) for_each_view(value, mark);
    for (const CallValue& value : op.call->results) for_each_view(value, mark);
  }
  for (const auto& [parameter, view] : trace_.gradients) mark(view);
  for (const StorageId id : trace_.keep) is_used[index(id)] = 1;

  std::vector<StorageId> renamed(is_used.size(), no_storage);
  for (std::size_t s = 0; s < is_used.size(); ++s) {
    if (is_used[s] == 0) continue;
    renamed[s] = make_id<StorageId>(trace_.storages.size());
    trace_.storages.push_back(std::move(table_.storages()[s]));
  }
  const auto rename = [&](StorageId& id) {
    if (id != no_storage) id = renamed[index(id)];
  };
  const auto rename_view = [&](TensorView& view) { rename(view.storage); };
  for (Op& op : trace_.ops) {
    std::for_each(op.reads.begin(), op.reads.end(), rename);
    std::for_each(op.writes.begin(), op.writes.end(), rename);
    std::for_each(op.creates.begin(), op.creates.end(), rename);
    for (AllocationEvent& event : *op.allocations) rename(event.storage);
    for (CallValue& value : op.call->arguments) for_each_view(value, rename_view);
    for (CallValue& value : op.call->results) for_each_view(value, rename_view);
  }
  std::for_each(trace_.keep.begin(), trace_.keep.end(), rename);
  std::for_each(trace_.outputs.begin(), trace_.outputs.end(), rename);
  if (trace_.loss) rename(*trace_.loss);
  for (auto& [parameter, view] : trace_.gradients) {
    rename(parameter);
    rename_view(view);
  }
  for (Module& module : trace_.modules) {
    for (HandedTensor& input : module.inputs) rename_view(input.view);
    std::erase_if(module.inputs,
                  [](const HandedTensor& input) { return input.view.storage == no_storage; });
  }
}

StepTrace StepRecorder::Recording::finish() {
  stop_observing();
  if (!failure_.empty()) throw InputError(failure_);
  note_statistics();
  // What the step keeps was released by nobody, whatever happened to it while it was handed out.
  for (const StorageId id : trace_.keep) table_[id].freed_after.reset();
  drop_unused_constants();
  return std::move(trace_);
}

// ---- StepRecorder ----------------------------------------------------------------------------

StepRecorder::StepRecorder(Backend& backend, const std::vector<StaticTensor>& static_tensors,
                           CurrentNode current_node)
    : recording_(std::make_unique<Recording>(backend, static_tensors, std::move(current_node))) {}

StepRecorder::~StepRecorder() = default;

void StepRecorder::set_phase(Phase phase) { recording_->set_phase(phase); }
void StepRecorder::mark_loss(const at::Tensor& loss) { recording_->mark_loss(loss); }
void StepRecorder::mark_output(const at::Tensor& output) { recording_->mark_output(output); }
void StepRecorder::mark_gradient(const at::Tensor& parameter, const at::Tensor& gradient) {
  recording_->mark_gradient(parameter, gradient);
}
StepTrace StepRecorder::finish() { return recording_->finish(); }

}  // namespace tidemark
