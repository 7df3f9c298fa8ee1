#include "phantom_report.hpp"

#include <nlohmann/json.hpp>
#include <ostream>

#include "tidemark/report.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

const char* name_of(PhantomPhase phase) {
  switch (phase) {
    case PhantomPhase::forward:
      return "forward";
    case PhantomPhase::backward:
      return "backward";
    case PhantomPhase::recomputation:
      return "recomputation";
    case PhantomPhase::optimizer:
      return "optimizer step";
    case PhantomPhase::unknown:
      break;
  }
  return "outside of a step";
}

const char* name_of(PhantomAnswer answer) {
  switch (answer) {
    case PhantomAnswer::ignored:
      return "ignored";
    case PhantomAnswer::refused:
      return "refused";
    case PhantomAnswer::modelled:
      break;
  }
  return "modelled";
}

std::string times(std::int64_t count) {
  return count == 1 ? "once" : std::to_string(count) + " times";
}

std::string with_exact(Bytes bytes) {
  return format_bytes(bytes) + " (" + std::to_string(bytes) + " B)";
}

std::string describe(const PhantomPlace& place) {
  return name_of(place.phase) + (place.operation.empty() ? "" : ", " + place.operation);
}

void print_device(const PhantomProcess& process, const PhantomDevice& device, std::ostream& out) {
  if (process.devices.size() > 1) out << "  device " << device.index << '\n';
  if (process.is_observed) {
    out << "  allocated peak  " << with_exact(device.allocated_peak) << ", "
        << describe(device.peak) << '\n'
        << "  reserved peak   " << with_exact(device.reserved_peak) << '\n';
  } else {
    out << "  this torch version's allocator cannot be followed; known is only\n";
  }
  out << "  on the device   " << with_exact(device.taken_peak) << ", context included\n";
  if (const auto& refused = device.out_of_memory) {
    out << "  out of memory   " << times(refused->times) << ", at last asking for "
        << with_exact(refused->requested) << " with " << format_bytes(refused->allocated)
        << " allocated, " << format_bytes(refused->reserved) << " reserved and "
        << format_bytes(refused->free) << " free: " << describe(refused->place) << '\n';
  }
}

void print_process(const PhantomProcess& process, std::ostream& out) {
  out << "process " << process.id;
  if (process.rank) out << ", rank " << *process.rank;
  out << ": " << process.command << '\n';
  for (const PhantomDevice& device : process.devices) print_device(process, device, out);
  for (const PhantomCall& call : process.calls) {
    out << "  " << name_of(call.answer) << ": " << call.name << ", " << times(call.times) << '\n';
  }
}

Json json_of(const PhantomPlace& place) {
  return {{"phase", name_of(place.phase)}, {"operation", place.operation}};
}

Json json_of(const PhantomDevice& device, bool is_observed) {
  Json json;
  json["index"] = device.index;
  json["allocated_peak_bytes"] = is_observed ? Json(device.allocated_peak) : Json();
  json["reserved_peak_bytes"] = is_observed ? Json(device.reserved_peak) : Json();
  json["device_peak_bytes"] = device.taken_peak;
  json["peak"] = is_observed ? json_of(device.peak) : Json();
  json["out_of_memory"] = nullptr;
  if (const auto& refused = device.out_of_memory) {
    json["out_of_memory"] = {{"times", refused->times},
                             {"requested_bytes", refused->requested},
                             {"allocated_bytes", refused->allocated},
                             {"reserved_bytes", refused->reserved},
                             {"free_bytes", refused->free},
                             {"where", json_of(refused->place)}};
  }
  return json;
}

Json json_of(const PhantomProcess& process) {
  Json json;
  json["process"] = process.id;
  json["rank"] = process.rank ? Json(*process.rank) : Json();
  json["command"] = process.command;
  json["devices"] = Json::array();
  for (const PhantomDevice& device : process.devices) {
    json["devices"].push_back(json_of(device, process.is_observed));
  }
  json["calls_without_answer"] = Json::array();
  for (const PhantomCall& call : process.calls) {
    json["calls_without_answer"].push_back(
        {{"name", call.name}, {"answer", name_of(call.answer)}, {"times", call.times}});
  }
  return json;
}

}  // namespace

void print_phantom_run(const GpuProfile& profile, const PhantomRun& run, std::ostream& out) {
  out << "phantom " << profile.name << " (" << profile.device_name << ", "
      << format_bytes(profile.total_memory) << ")\n";
  if (run.processes.empty()) out << "the command used no GPU\n";
  for (const PhantomProcess& process : run.processes) print_process(process, out);
}

std::string format_phantom_run(const GpuProfile& profile, const PhantomRun& run) {
  Json json;
  json["format"] = "tidemark.phantom";
  json["schema_version"] = 1;
  json["gpu"] = profile.name;
  json["total_memory_bytes"] = profile.total_memory;
  json["exit_status"] = run.exit_status;
  json["processes"] = Json::array();
  for (const PhantomProcess& process : run.processes) json["processes"].push_back(json_of(process));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
