// The step trace as JSON, one field after the other. Documented in the README.
#include "step_trace_json.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base64.hpp"
#include "call_json.hpp"
#include "tidemark/io.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

constexpr std::size_t role_count = 9;
constexpr std::size_t phase_count = 3;
constexpr const char* step_format = "tidemark.step";

constexpr std::array<std::pair<const char*, double TransferRates::*>, 4> transfer_fields{
    {{"pinned_to_device", &TransferRates::pinned_to_device},
     {"pinned_to_host", &TransferRates::pinned_to_host},
     {"pageable_to_device", &TransferRates::pageable_to_device},
     {"pageable_to_host", &TransferRates::pageable_to_host}}};

double read_rate(const JsonCursor& json) {
  const double rate = json.number();
  if (!(rate > 0)) json.fail("is not positive");
  return rate;
}

template <typename Id>
OrderedJson ids_to_json(const std::vector<Id>& ids) {
  OrderedJson json = OrderedJson::array();
  for (const Id id : ids) json.push_back(static_cast<std::int32_t>(id));
  return json;
}

void put_if(OrderedJson& json, const char* key, const std::string& text) {
  if (!text.empty()) json[key] = text;
}

OrderedJson storage_to_json(const Storage& storage, std::size_t id) {
  OrderedJson json{{"id", id}, {"bytes", storage.bytes}, {"role", name(storage.role)}};
  put_if(json, "name", storage.name);
  put_if(json, "device", storage.device);
  if (storage.freed_after) json["freed_after"] = static_cast<std::int32_t>(*storage.freed_after);
  if (storage.value) json["value"] = to_base64(*storage.value);
  return json;
}

Storage read_storage(const JsonCursor& json) {
  Storage storage;
  storage.bytes = json.at("bytes").bytes();
  storage.role = json.at("role").enumeration<Role>(role_count, [](Role r) { return name(r); });
  if (const auto field = json.find("name")) storage.name = field->string();
  if (const auto field = json.find("device")) storage.device = field->string();
  if (const auto field = json.find("freed_after")) storage.freed_after = field->id<OpId>();
  if (const auto field = json.find("value")) {
    storage.value = from_base64(field->string());
    if (!storage.value) field->fail("is not base64");
  }
  return storage;
}

OrderedJson flags_to_json(const OpFlags& flags) {
  OrderedJson json = OrderedJson::array();
  if (flags.random) json.push_back("random");
  if (flags.statistics) json.push_back("statistics");
  if (flags.host_sync) json.push_back("host_sync");
  if (flags.not_recomputable) json.push_back("not_recomputable");
  return json;
}

OpFlags read_flags(const JsonCursor& json) {
  OpFlags flags;
  json.for_each([&](const JsonCursor& flag) {
    const std::string text = flag.string();
    if (text == "random") {
      flags.random = true;
    } else if (text == "statistics") {
      flags.statistics = true;
    } else if (text == "host_sync") {
      flags.host_sync = true;
    } else if (text == "not_recomputable") {
      flags.not_recomputable = true;
    } else {
      flag.fail("is an unknown flag");
    }
  });
  return flags;
}

OrderedJson event_to_json(const AllocationEvent& event) {
  OrderedJson json{{event.is_free ? "free" : "allocate", event.bytes}};
  if (event.storage != no_storage) {
    json["storage"] = static_cast<std::int32_t>(event.storage);
  } else {
    json["temporary"] = event.temporary;
  }
  return json;
}

AllocationEvent read_event(const JsonCursor& json) {
  AllocationEvent event;
  const auto freed = json.find("free");
  event.is_free = freed.has_value();
  event.bytes = freed ? freed->bytes() : json.at("allocate").bytes();
  if (const auto storage = json.find("storage")) {
    event.storage = storage->id<StorageId>();
  } else {
    event.temporary = json.at("temporary").small_integer(0);
  }
  return event;
}

// The keys that an operator and its form with gradients off have in common.
void put_form(OrderedJson& json, const OpForm& form) {
  json["workspace_bytes"] = form.workspace_bytes;
  if (!form.allocations) return;
  json["allocations"] = OrderedJson::array();
  for (const AllocationEvent& event : *form.allocations) {
    json["allocations"].push_back(event_to_json(event));
  }
}

OrderedJson no_grad_to_json(const Op& op) {
  OrderedJson json{{"omits", ids_to_json(op.no_grad->omits)}};
  put_form(json, form_of(op, Gradients::off));
  if (op.no_grad->call) json["call"] = call_to_json(*op.no_grad->call);
  return json;
}

NoGradForm read_no_grad(const JsonCursor& json) {
  NoGradForm form;
  form.omits = json.at("omits").ids<StorageId>();
  if (const auto field = json.find("workspace_bytes")) form.workspace_bytes = field->bytes();
  if (const auto field = json.find("allocations")) {
    form.allocations = field->list<AllocationEvent>(read_event);
  }
  if (const auto field = json.find("call")) form.call = read_call(*field);
  return form;
}

OrderedJson op_to_json(const Op& op, std::size_t id) {
  OrderedJson json{{"id", id}, {"name", op.name}, {"phase", name(op.phase)}};
  put_if(json, "module", op.module);
  json["reads"] = ids_to_json(op.reads);
  json["writes"] = ids_to_json(op.writes);
  json["creates"] = ids_to_json(op.creates);
  json["duration_ns"] = op.duration.count();
  put_form(json, form_of(op, Gradients::on));
  if (op.flags != OpFlags{}) json["flags"] = flags_to_json(op.flags);
  if (!op.forward_ops.empty()) json["forward_ops"] = ids_to_json(op.forward_ops);
  put_if(json, "source", op.source);
  if (op.group) json["group"] = *op.group;
  if (op.call) json["call"] = call_to_json(*op.call);
  if (op.no_grad) json["no_grad"] = no_grad_to_json(op);
  return json;
}

Op read_op(const JsonCursor& json) {
  Op op;
  op.name = json.at("name").string();
  op.phase = json.at("phase").enumeration<Phase>(phase_count, [](Phase p) { return name(p); });
  if (const auto field = json.find("module")) op.module = field->string();
  op.reads = json.at("reads").ids<StorageId>();
  op.writes = json.at("writes").ids<StorageId>();
  op.creates = json.at("creates").ids<StorageId>();
  if (const auto field = json.find("duration_ns")) op.duration = Nanoseconds(field->integer(0));
  if (const auto field = json.find("workspace_bytes")) op.workspace_bytes = field->bytes();
  if (const auto field = json.find("allocations")) {
    op.allocations = field->list<AllocationEvent>(read_event);
  }
  if (const auto field = json.find("flags")) op.flags = read_flags(*field);
  if (const auto field = json.find("forward_ops")) op.forward_ops = field->ids<OpId>();
  if (const auto field = json.find("source")) op.source = field->string();
  if (const auto field = json.find("group")) op.group = field->small_integer(0);
  if (const auto field = json.find("call")) op.call = read_call(*field);
  if (const auto field = json.find("no_grad")) op.no_grad = read_no_grad(*field);
  return op;
}

// The ids in a file are positions; anything else would silently mean another storage.
template <typename Item, typename Read>
std::vector<Item> read_numbered(const JsonCursor& json, Read read) {
  std::vector<Item> items;
  json.for_each([&](const JsonCursor& item) {
    if (item.at("id").integer() != static_cast<std::int64_t>(items.size())) {
      item.fail("its id is not its position");
    }
    items.push_back(read(item));
  });
  return items;
}

// Sums of bytes and of times are taken everywhere without a thought of overflow: a year and a
// hundred petabytes lie far beyond any step.
void check_magnitudes(const JsonCursor& root, const StepTrace& trace) {
  constexpr double most_bytes = 1e17;
  constexpr double most_nanoseconds = 3.2e16;
  double bytes = 0;
  double nanoseconds = 0;
  for (const Storage& storage : trace.storages) bytes += static_cast<double>(storage.bytes);
  const auto add = [&](const OpForm& form) {
    bytes += static_cast<double>(form.workspace_bytes);
    if (!form.allocations) return;
    for (const AllocationEvent& event : *form.allocations) {
      bytes += static_cast<double>(event.bytes);
    }
  };
  for (const Op& op : trace.ops) {
    nanoseconds += static_cast<double>(op.duration.count());
    add(form_of(op, Gradients::on));
    if (op.no_grad) add(form_of(op, Gradients::off));
  }
  if (bytes > most_bytes) root.fail("the bytes of the step add up to more than any machine has");
  if (nanoseconds > most_nanoseconds) root.fail("the operators take more than a year");
}

std::vector<std::vector<std::int32_t>> read_groups(const JsonCursor& json) {
  return json.list<std::vector<std::int32_t>>([](const JsonCursor& group) {
    return group.list<std::int32_t>([](const JsonCursor& rank) { return rank.small_integer(0); });
  });
}

void read_ranks(const JsonCursor& root, StepTrace& trace) {
  if (const auto size = root.find("world_size")) trace.world_size = size->small_integer(1);
  if (const auto rank = root.find("rank")) {
    trace.rank = rank->small_integer(0);
    if (trace.rank >= trace.world_size) rank->fail("is not below world_size");
  }
  if (const auto groups = root.find("groups")) trace.groups = read_groups(*groups);
}

void require_sound(const std::string& path, const StepTrace& trace) {
  const std::vector<std::string> broken = check_trace(trace);
  if (broken.empty()) return;
  const std::string others =
      broken.size() > 1 ? " (and " + std::to_string(broken.size() - 1) + " more broken rules)" : "";
  throw InputError(path, "", one_line(broken.front()) + others + "; record the step again");
}

void read_results(const JsonCursor& root, StepTrace& trace) {
  trace.keep = root.at("keep").ids<StorageId>();
  if (const auto loss = root.find("loss")) trace.loss = loss->id<StorageId>();
  if (const auto gradients = root.find("gradients")) {
    gradients->for_each([&](const JsonCursor& gradient) {
      trace.gradients.emplace_back(gradient.at("parameter").id<StorageId>(),
                                   read_tensor_view(gradient.at("tensor")));
    });
  }
  if (const auto outputs = root.find("outputs")) trace.outputs = outputs->ids<StorageId>();
  if (const auto bytes = root.find("recomputation_workspace_bytes")) {
    trace.recomputation_workspace_bytes = bytes->bytes();
  }
}

}  // namespace

std::string_view name(Role role) {
  static constexpr std::array<std::string_view, role_count> names{
      "parameter", "buffer",          "input",     "constant", "activation",
      "gradient",  "optimizer_state", "temporary", "output"};
  return names.at(static_cast<std::size_t>(role));
}

std::string_view name(Phase phase) {
  static constexpr std::array<std::string_view, phase_count> names{"forward", "backward",
                                                                   "optimizer"};
  return names.at(static_cast<std::size_t>(phase));
}

OrderedJson to_json(const TransferRates& rates) {
  OrderedJson json;
  for (const auto& [key, rate] : transfer_fields) json[key] = rates.*rate;
  return json;
}

TransferRates read_transfer_rates(const JsonCursor& json) {
  TransferRates rates;
  for (const auto& [key, rate] : transfer_fields) rates.*rate = read_rate(json.at(key));
  return rates;
}

OrderedJson to_json(const TraceDevice& device) {
  OrderedJson json{{"kind", name(device.kind)}, {"name", device.name}};
  if (device.threads > 0) json["threads"] = device.threads;
  if (device.copy_bytes_per_second) json["copy_bytes_per_second"] = *device.copy_bytes_per_second;
  if (device.transfer_rates) json["transfer_rates"] = to_json(*device.transfer_rates);
  if (device.memory_bytes) json["memory_bytes"] = *device.memory_bytes;
  if (device.context_bytes) json["context_bytes"] = *device.context_bytes;
  return json;
}

TraceDevice read_device(const JsonCursor& json) {
  TraceDevice device;
  device.kind = json.at("kind").enumeration<DeviceKind>(device_kind_count,
                                                        [](DeviceKind k) { return name(k); });
  if (const auto field = json.find("name")) device.name = field->string();
  if (const auto field = json.find("threads")) device.threads = field->small_integer(0);
  if (const auto field = json.find("copy_bytes_per_second")) {
    device.copy_bytes_per_second = read_rate(*field);
  }
  if (const auto field = json.find("transfer_rates")) {
    device.transfer_rates = read_transfer_rates(*field);
  }
  if (const auto field = json.find("memory_bytes")) device.memory_bytes = field->bytes();
  if (const auto field = json.find("context_bytes")) device.context_bytes = field->bytes();
  return device;
}

OrderedJson module_to_json(const Module& module) {
  OrderedJson json{{"path", module.path}, {"class", module.class_name}};
  for (const HandedTensor& input : module.inputs) {
    json["inputs"].push_back(
        {{"tensor", tensor_view_to_json(input.view)}, {"is_view", input.is_view}});
  }
  return json;
}

Module read_module(const JsonCursor& json) {
  Module module{.path = json.at("path").string(), .class_name = json.at("class").string()};
  if (const auto inputs = json.find("inputs")) {
    module.inputs = inputs->list<HandedTensor>([](const JsonCursor& input) {
      return HandedTensor{.view = read_tensor_view(input.at("tensor")),
                          .is_view = input.at("is_view").boolean()};
    });
  }
  return module;
}

OrderedJson calls_to_json(const std::vector<PhantomCall>& calls) {
  OrderedJson json = OrderedJson::array();
  for (const PhantomCall& call : calls) {
    json.push_back({{"name", call.name}, {"answer", name(call.answer)}, {"times", call.times}});
  }
  return json;
}

PhantomCall read_phantom_call(const JsonCursor& json) {
  return {.name = json.at("name").string(),
          .answer = json.at("answer").enumeration<PhantomAnswer>(
              phantom_answer_count, [](PhantomAnswer answer) { return name(answer); }),
          .times = json.at("times").integer(1)};
}

OrderedJson to_json(const Provenance& provenance) {
  OrderedJson json = OrderedJson::object();
  put_if(json, "tool", provenance.tool);
  put_if(json, "command_line", provenance.command_line);
  put_if(json, "created", provenance.created);
  put_if(json, "model", provenance.model);
  put_if(json, "framework", provenance.framework);
  put_if(json, "host", provenance.host);
  json["seed"] = provenance.seed;
  if (provenance.calls_without_answer) {
    json["calls_without_answer"] = calls_to_json(*provenance.calls_without_answer);
  }
  return json;
}

Provenance read_provenance(const JsonCursor& json) {
  Provenance provenance;
  const auto text = [&](const char* key, std::string& field) {
    if (const auto found = json.find(key)) field = found->string();
  };
  text("tool", provenance.tool);
  text("command_line", provenance.command_line);
  text("created", provenance.created);
  text("model", provenance.model);
  text("framework", provenance.framework);
  text("host", provenance.host);
  if (const auto seed = json.find("seed")) provenance.seed = seed->integer();
  if (const auto calls = json.find("calls_without_answer")) {
    provenance.calls_without_answer = calls->list<PhantomCall>(read_phantom_call);
  }
  return provenance;
}

std::string format_step_trace(const StepTrace& trace) {
  OrderedJson json{{"format", step_format},
                   {"schema_version", StepTrace::schema_version},
                   {"device", to_json(trace.device)},
                   {"rank", trace.rank},
                   {"world_size", trace.world_size},
                   {"groups", trace.groups},
                   {"provenance", to_json(trace.provenance)}};
  json["modules"] = OrderedJson::array();
  for (const Module& module : trace.modules) {
    json["modules"].push_back(module_to_json(module));
  }
  json["storages"] = OrderedJson::array();
  for (std::size_t s = 0; s < trace.storages.size(); ++s) {
    json["storages"].push_back(storage_to_json(trace.storages[s], s));
  }
  json["ops"] = OrderedJson::array();
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    json["ops"].push_back(op_to_json(trace.ops[o], o));
  }
  json["keep"] = ids_to_json(trace.keep);
  if (trace.loss) json["loss"] = static_cast<std::int32_t>(*trace.loss);
  json["gradients"] = OrderedJson::array();
  for (const auto& [parameter, view] : trace.gradients) {
    json["gradients"].push_back({{"parameter", static_cast<std::int32_t>(parameter)},
                                 {"tensor", tensor_view_to_json(view)}});
  }
  json["outputs"] = ids_to_json(trace.outputs);
  if (trace.recomputation_workspace_bytes != 0) {
    json["recomputation_workspace_bytes"] = trace.recomputation_workspace_bytes;
  }
  return to_text(json) + "\n";
}

StepTrace parse_step_trace(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  check_format(path, document, step_format, StepTrace::schema_version);
  const JsonCursor root(path, document, "");
  StepTrace trace;
  trace.device = read_device(root.at("device"));
  read_ranks(root, trace);
  if (const auto provenance = root.find("provenance")) {
    trace.provenance = read_provenance(*provenance);
  }
  if (const auto modules = root.find("modules")) {
    trace.modules = modules->list<Module>(read_module);
  }
  trace.storages = read_numbered<Storage>(root.at("storages"), read_storage);
  trace.ops = read_numbered<Op>(root.at("ops"), read_op);
  read_results(root, trace);
  check_magnitudes(root, trace);
  require_sound(path, trace);
  return trace;
}

StepTrace read_step_trace(const std::string& path) {
  return parse_step_trace(path, read_file(path));
}

void write_step_trace(const StepTrace& trace, const std::string& path) {
  write_file(path, format_step_trace(trace));
}

}  // namespace tidemark
