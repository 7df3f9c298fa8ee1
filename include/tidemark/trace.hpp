// StepTrace: one training step as it really ran. Everything else is derived from it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tidemark/phantom_call.hpp"
#include "tidemark/tensor.hpp"
#include "tidemark/units.hpp"

namespace tidemark {

enum class Role : std::uint8_t {
  parameter,
  buffer,
  input,
  constant,
  activation,
  gradient,
  optimizer_state,
  temporary,
  output,
};

enum class Phase : std::uint8_t { forward, backward, optimizer };

enum class DeviceKind : std::uint8_t { unknown, cpu, cuda, phantom };
inline constexpr std::size_t device_kind_count = 4;
// A GPU, there or not: its tensors come from a caching allocator and lie apart from the host's.
[[nodiscard]] inline bool is_gpu(DeviceKind kind) {
  return kind == DeviceKind::cuda || kind == DeviceKind::phantom;
}

// Identity is the storage, never the tensor: all views of it are one entry.
struct Storage {
  Bytes bytes = 0;
  Role role = Role::activation;
  std::string name;    // fully qualified parameter, buffer or input name; empty for the others
  std::string device;  // "cpu", "cuda:0"; empty: the device of the trace
  // The operator after which the recorded step really released it. Absent: it outlived the step,
  // existed before it, or (in imported traces) is not known; then its last use serves.
  std::optional<OpId> freed_after;
  // The bytes themselves, for constants that no operator made and for integer values that steer
  // indices (token ids, masks). Raw, in the machine's own byte order (little endian).
  std::optional<std::vector<std::uint8_t>> value;

  bool operator==(const Storage&) const = default;
};

// One allocation or release inside an operator's call, in the order in which they happened.
struct AllocationEvent {
  bool is_free = false;
  Bytes bytes = 0;
  // The created storage that it belongs to, or no_storage for a temporary of the call.
  StorageId storage = no_storage;
  // Numbers the temporaries of one call from 0 on; -1 for created storages.
  std::int32_t temporary = -1;

  bool operator==(const AllocationEvent&) const = default;
};

struct NullValue {
  bool operator==(const NullValue&) const = default;
};
struct DeviceValue {
  std::string name;
  bool operator==(const DeviceValue&) const = default;
};
struct DefaultGenerator {
  bool operator==(const DefaultGenerator&) const = default;
};

// An item of a call: what the boxed call really received or returned, defaults written out. Int
// and double scalars stay distinct, since they promote types differently.
struct CallValue;
struct CallList {
  // What the schema says that the list holds: "int", "float", "bool", "tensor", "tensor?", "str",
  // "scalar". Needed where the list is empty, and because boxed lists are not covariant.
  std::string of;
  std::vector<CallValue> items;
  bool operator==(const CallList&) const;
};
struct CallValue {
  std::variant<NullValue, TensorView, std::int64_t, double, bool, std::string, ScalarType,
               DeviceValue, Layout, MemoryFormat, DefaultGenerator, CallList>
      value;
  bool operator==(const CallValue&) const = default;
};
inline bool CallList::operator==(const CallList& other) const {
  return of == other.of && items == other.items;
}

// Enough to call the operator again through PyTorch's dispatcher: arguments in schema order.
struct Call {
  std::string overload;  // "" is the default overload
  std::vector<CallValue> arguments;
  std::vector<CallValue> results;

  bool operator==(const Call&) const = default;
};

struct OpFlags {
  bool random = false;  // at::Tag::nondeterministic_seeded: draws from the default generator
  // Its writes to storages that existed before the step are statistics (batch norm's running
  // values, num_batches_tracked): they do not feed its own output, are run again as the framework
  // does, and are exempt from versions.
  bool statistics = false;
  bool host_sync = false;  // returns a value to the host (aten::item)
  // May not run again in the same step: collectives.
  bool not_recomputable = false;

  bool operator==(const OpFlags&) const = default;
};

// Whether autograd is on, where the program itself does not say so.
enum class Gradients : std::uint8_t { off, on };

// How a forward operator runs with gradients off, as the reentrant method first runs a segment,
// where it differs then: efficient attention keeps no log-sum-exp, oneDNN's LSTM no workspace. It
// reads and writes what the operator reads and writes.
struct NoGradForm {
  // Those of Op::creates that it does not make, or makes in another size and for nobody; what it
  // takes for these counts as its workspace.
  std::vector<StorageId> omits;
  Bytes workspace_bytes = 0;
  std::optional<std::vector<AllocationEvent>> allocations;
  std::optional<Call> call;

  bool operator==(const NoGradForm&) const = default;
};

// One outermost operator call below which autograd is switched off. Operators that only make views
// are not listed: views are written out in each call.
struct Op {
  std::string name;  // "aten::addmm", without the overload
  Phase phase = Phase::forward;
  std::string module;  // path of the module that called it ("blocks.0.fc"); empty: none known
  // Storages whose bytes are read, those written in place, and those made, each once, in the order
  // of the arguments and results. What serves for its shape alone stands in the call only. A
  // storage that is read and written in place is in both lists; a created one is in neither.
  std::vector<StorageId> reads;
  std::vector<StorageId> writes;
  std::vector<StorageId> creates;
  Nanoseconds duration{0};
  // Peak inside the call, less what was live at its begin, less the bytes it creates.
  Bytes workspace_bytes = 0;
  std::optional<std::vector<AllocationEvent>> allocations;
  OpFlags flags;
  // For a backward operator: the forward operators whose derivative it is part of (usually the one
  // or few operators below one autograd node). Empty: not known, or it only adds gradients up.
  std::vector<OpId> forward_ops;
  std::string source;  // "file.py:12 in forward", the user's innermost line
  std::optional<std::int32_t> group;
  std::optional<Call> call;
  std::optional<NoGradForm> no_grad;  // absent: it runs in the one form always

  bool operator==(const Op&) const = default;
};

// What an operator takes and makes in the form in which it runs; refers to the operator.
struct OpForm {
  Bytes workspace_bytes = 0;
  const std::optional<std::vector<AllocationEvent>>& allocations;
  const std::optional<Call>& call;
  const std::vector<StorageId>* omits = nullptr;

  [[nodiscard]] bool makes(StorageId id) const {
    return omits == nullptr || std::find(omits->begin(), omits->end(), id) == omits->end();
  }
};

[[nodiscard]] inline OpForm form_of(const Op& op, Gradients gradients) {
  if (gradients == Gradients::on || !op.no_grad)
    return {op.workspace_bytes, op.allocations, op.call, nullptr};
  const NoGradForm& form = *op.no_grad;
  return {form.workspace_bytes, form.allocations, form.call, &form.omits};
}

// A tensor that a module is given by the code around it.
struct HandedTensor {
  TensorView view;
  // Autograd keeps it as a view of another tensor: who holds it holds that one's bytes.
  bool is_view = false;

  bool operator==(const HandedTensor&) const = default;
};

// A module of the user's model.
struct Module {
  std::string path;        // "transformer.h.3"
  std::string class_name;  // "transformers.models.gpt2.modeling_gpt2.GPT2Block"
  // In the order of their first use, each once; parameters and buffers themselves are not listed.
  // Empty: there are none, or they are not known.
  std::vector<HandedTensor> inputs = {};

  bool operator==(const Module&) const = default;
};

// Achieved bandwidths of copies between the device and the host, each direction alone, in bytes per
// second.
struct TransferRates {
  double pinned_to_device = 0;
  double pinned_to_host = 0;
  double pageable_to_device = 0;
  double pageable_to_host = 0;

  bool operator==(const TransferRates&) const = default;
};

struct TraceDevice {
  DeviceKind kind = DeviceKind::unknown;
  std::string name;
  // Kernels choose their scratch by the number of threads; 0: not known.
  std::int32_t threads = 0;
  // Achieved bandwidth of copies, bytes per second; serves for all that transfer_rates do not know.
  std::optional<double> copy_bytes_per_second;
  std::optional<TransferRates> transfer_rates;
  // The device's memory as its runtime reports it, and what of it the context and libraries take
  // outside the allocator.
  std::optional<Bytes> memory_bytes;
  std::optional<Bytes> context_bytes;

  bool operator==(const TraceDevice&) const = default;
};

// Where a result comes from. Never part of a fingerprint.
struct Provenance {
  std::string tool;          // "tidemark 0.1.0"
  std::string command_line;  // as typed
  std::string created;       // ISO 8601, UTC
  std::string model;         // path of the file the step was recorded from
  std::string framework;     // "torch 2.11.0"
  std::string host;          // processor or card, as the system names it
  std::int64_t seed = 0;
  // What the phantom GPU could not answer exactly while the step was recorded there. Absent: it was
  // recorded elsewhere, or that is not known.
  std::optional<std::vector<PhantomCall>> calls_without_answer;

  bool operator==(const Provenance&) const = default;
};

struct StepTrace {
  static constexpr std::int32_t schema_version = 1;

  TraceDevice device;
  std::int32_t rank = 0;
  std::int32_t world_size = 1;
  std::vector<std::vector<std::int32_t>> groups;
  Provenance provenance;
  // Every module of the model, in the order of the model; empty where an importer cannot know.
  std::vector<Module> modules;
  std::vector<Storage> storages;
  std::vector<Op> ops;  // in the order in which they ran
  // What outlives the step: gradients, the loss, held outputs.
  std::vector<StorageId> keep;
  // The storage of the loss, and each parameter's gradient (by the parameter's storage) that this
  // step made or added to.
  std::optional<StorageId> loss;
  std::vector<std::pair<StorageId, TensorView>> gradients;
  // The program's outputs besides the loss: kept to the end under --hold-outputs.
  std::vector<StorageId> outputs;
  // On a GPU autograd recomputes on its own thread, which has its own library workspaces: what they
  // take, once anything is recomputed, that the recorded step did not need there.
  Bytes recomputation_workspace_bytes = 0;

  bool operator==(const StepTrace&) const = default;
};

// A storage is static when no operator creates it: it existed before the step, belongs to the
// caller and is never freed. Indexed by storage; cost: one pass over the operators.
[[nodiscard]] std::vector<bool> static_storages(const StepTrace& trace);

// False for what a step on a GPU keeps in the host's memory (Python's numbers, an optimizer's
// counters): it counts in no peak of the device.
[[nodiscard]] bool is_on_device(const StepTrace& trace, StorageId id);

// Every broken rule of a trace, one sentence each, naming the operator or storage; empty: sound.
// Checked once when a trace is loaded or recorded; everything behind it may rely on the rules:
// ids in range, each storage created once and before its use, freed_after not before its last
// recorded use as a created storage, forward before backward before optimizer, keep known, calls
// naming only storages of the operator's lists or static or created before.
[[nodiscard]] std::vector<std::string> check_trace(const StepTrace& trace);

// True when each operator carries its call.
[[nodiscard]] bool is_executable(const StepTrace& trace);

// 128-bit hash as 32 hexadecimal digits, over device kind and profile, threads, operator names with
// overloads, phases, reads, writes, creates, storage bytes and roles, keep. Not over times, names,
// modules or provenance.
[[nodiscard]] std::string fingerprint(const StepTrace& trace);

}  // namespace tidemark
