#include "phantom_report.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/phantom_remedy.hpp"
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

// What a reader must know to take the figures for what they are.
std::vector<std::string> remarks(const PhantomRun& run) {
  std::vector<std::string> all;
  const char* const end =
      run.processes.empty() ? "before it used the GPU" : "the figures tell what it used until then";
  if (run.signal != 0) {
    all.push_back("the command was ended by signal " + std::to_string(run.signal) + " (" +
                  strsignal(run.signal) + "): " + end);
  } else if (run.exit_status != 0) {
    all.push_back("the command ended with exit status " + std::to_string(run.exit_status) + ": " +
                  end);
  } else if (run.processes.empty()) {
    all.emplace_back("the command used no GPU");
  }
  return all;
}

std::vector<std::string> remarks(const PhantomProcess& process) {
  std::vector<std::string> all;
  if (process.refused_after_fork > 0) {
    all.push_back("it was forked from a process that had used the GPU, so CUDA failed " +
                  times(process.refused_after_fork) +
                  ", as on a real GPU; start such workers with the method spawn");
    return all;
  }
  if (process.is_card_lost) {
    all.emplace_back("the card failed, as it was asked to");
  }
  if (!process.has_ended) {
    all.emplace_back(
        "it ended abruptly (a crash, a signal or os._exit), so its last operation may be missing");
  }
  if (process.conditions > 0) {
    all.push_back("it read a condition from the GPU " + times(process.conditions) +
                  ", where kernels make no values: all() and isfinite() were taken as true, any "
                  "other as false, and on a card another path may be taken (Transformers then "
                  "keeps a mask of padding)");
  }
  if (process.numbers > 0) {
    all.push_back("it read a whole number from the GPU " + times(process.numbers) +
                  ", where kernels make no values: each was 0, and what is sized by one differs "
                  "from a card's");
  }
  for (std::string& remedy : phantom_remedies(process.calls)) all.push_back(std::move(remedy));
  if (process.is_observed && !process.ran_backward) {
    all.emplace_back("no backward ran, so these are not the peaks of a training step");
  }
  return all;
}

void print_process(const PhantomProcess& process, std::ostream& out) {
  out << "process " << process.id;
  if (process.rank) out << ", rank " << *process.rank;
  out << ": " << process.command << '\n';
  for (const PhantomDevice& device : process.devices) print_device(process, device, out);
  if (process.snapshot) out << "  snapshot        " << *process.snapshot << '\n';
  for (const std::string& remark : remarks(process)) out << "  note: " << remark << '\n';
  for (const PhantomCall& call : process.calls) {
    out << "  " << name(call.answer) << ": " << call.name << ", " << times(call.times) << '\n';
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
  json["snapshot"] = process.snapshot ? Json(*process.snapshot) : Json();
  json["notes"] = remarks(process);
  json["calls_without_answer"] = Json::array();
  for (const PhantomCall& call : process.calls) {
    json["calls_without_answer"].push_back(
        {{"name", call.name}, {"answer", name(call.answer)}, {"times", call.times}});
  }
  return json;
}

}  // namespace

void print_phantom_run(const GpuProfile& profile, const PhantomRun& run, std::ostream& out) {
  out << "phantom " << profile.name << " (" << profile.device_name << ", "
      << format_bytes(profile.total_memory) << ")\n";
  for (const PhantomProcess& process : run.processes) print_process(process, out);
  for (const std::string& remark : remarks(run)) out << remark << '\n';
}

std::string format_phantom_run(const GpuProfile& profile, const PhantomRun& run) {
  Json json;
  json["format"] = "tidemark.phantom";
  json["schema_version"] = 1;
  json["gpu"] = profile.name;
  json["total_memory_bytes"] = profile.total_memory;
  json["exit_status"] = run.exit_status;
  json["notes"] = remarks(run);
  json["processes"] = Json::array();
  for (const PhantomProcess& process : run.processes) json["processes"].push_back(json_of(process));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
