// The time model's error on a CPU: the machine is calibrated, steps are recorded, and each recorded
// operator's time is set beside the modelled one. Prints both by kind of work, by operator if
// asked, and for the whole step.
//
//   time_model_benchmark [--threads N] [--machine MACHINE.json] [--operators]
//   MODEL.pt2|STEP.json.gz...
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "median.hpp"
#include "tidemark/device.hpp"
#include "tidemark/io.hpp"
#include "tidemark/time_model.hpp"

namespace {

using tidemark::bench::median;

using namespace tidemark;

struct Request {
  std::int32_t threads = 0;
  std::optional<std::string> machine;
  bool by_operator = false;
  std::vector<std::string> steps;
};

struct Times {
  std::size_t calls = 0;
  double recorded = 0;
  double modelled = 0;

  void add(double recorded_seconds, double modelled_seconds) {
    ++calls;
    recorded += recorded_seconds;
    modelled += modelled_seconds;
  }
};

void print(const std::string& what, const Times& times) {
  std::printf("  %-58s %5zu calls, recorded %9.3f ms, modelled %9.3f ms, error %+7.1f %%\n",
              what.c_str(), times.calls, 1e3 * times.recorded, 1e3 * times.modelled,
              100 * (times.modelled / times.recorded - 1));
}

// The slowest first.
void print(const std::map<std::string, Times>& times) {
  std::vector<std::pair<std::string, Times>> rows(times.begin(), times.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.recorded > b.second.recorded; });
  for (const auto& [what, sum] : rows) print(what, sum);
}

// Its kinds of work, each once.
std::string kind_of(const OpWork& work) {
  std::string kinds;
  for (const WorkPart& part : work.parts) {
    const std::string kind(name(part.work));
    if (kinds.find(kind) != std::string::npos) continue;
    kinds += (kinds.empty() ? "" : " and ") + kind;
  }
  return kinds.empty() ? std::string(name(Work::memory)) : kinds;
}

StepTrace step_of(const std::string& path, const Request& request) {
  constexpr std::int32_t replays = 7;
  if (!path.ends_with(".pt2")) return read_step_trace(path);
  return make_device("cpu", request.threads)
      ->record(read_program(path), {.timing_replays = replays})
      .trace;
}

void judge(const std::string& path, const Request& request, const MachineRates& rates) {
  const StepTrace trace = step_of(path, request);
  std::map<std::string, Times> by_kind;
  std::map<std::string, Times> by_operator;
  Times all;
  std::vector<double> factors;  // of each operator, above 1 whichever way it is off
  for (const Op& op : trace.ops) {
    const double recorded = seconds(op.duration);
    const double modelled = seconds(modelled_duration(trace, op, rates));
    all.add(recorded, modelled);
    by_kind[kind_of(work_of(trace, op))].add(recorded, modelled);
    by_operator[op.name].add(recorded, modelled);
    if (recorded > 0) factors.push_back(std::exp(std::abs(std::log(modelled / recorded))));
  }
  std::printf("%s: %zu operators, half of them within a factor of %.2f\n", path.c_str(),
              trace.ops.size(), median(factors));
  print(by_kind);
  if (request.by_operator) print(by_operator);
  print("whole step", all);
}

std::optional<Request> read_request(int argc, char** argv) {
  Request request;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--operators") {
      request.by_operator = true;
    } else if (word == "--threads" && i + 1 < argc) {
      request.threads = std::atoi(argv[++i]);
    } else if (word == "--machine" && i + 1 < argc) {
      request.machine = argv[++i];
    } else {
      request.steps.push_back(word);
    }
  }
  return request.steps.empty() ? std::nullopt : std::optional(request);
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Request> request = read_request(argc, argv);
  if (!request) {
    std::fprintf(stderr,
                 "usage: time_model_benchmark [--threads N] [--machine MACHINE.json] [--operators] "
                 "MODEL.pt2|STEP.json.gz...\n");
    return 2;
  }
  const MachineRates rates = request->machine ? read_machine(*request->machine)
                                              : make_device("cpu", request->threads)->calibrate();
  for (const std::string& step : request->steps) judge(step, *request, rates);
}
