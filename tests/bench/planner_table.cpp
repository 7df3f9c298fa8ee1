// Plans under a memory budget: every planner's time overhead in percent at static + 0.9 down to 0.2
// of (peak - static), with tide's proven gap in percent and its planning time on one core.
//
//   planner_table [STEP.json.gz ...]    recorded steps; without arguments the built-in ones
//   planner_table --growth              planning time over 500 to 20,000 operators
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model_steps.hpp"
#include "tidemark/io.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {
namespace {

struct NamedStep {
  std::string name;
  StepTrace trace;
};

StepFigures plain_figures(const StepTrace& trace) {
  return simulate(trace, plain_schedule(trace)).figures;
}

// The processor's time, since other programs may run beside: planning is one thread's work.
double now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Cell {
  std::optional<Plan> plan;
  double seconds = 0;
};

Cell run(const Planner& planner, const StepTrace& trace, const PlanRequest& request) {
  Cell cell;
  const double begin = now();
  PlanOutcome outcome = run_planner(planner, trace, request);
  cell.seconds = now() - begin;
  if (auto* plan = std::get_if<Plan>(&outcome)) cell.plan = std::move(*plan);
  return cell;
}

enum class Offload : std::uint8_t { no, yes };

// With offload, the host has room for whatever the copies manage.
PlanRequest request_at(const StepTrace& trace, const StepFigures& plain, double part,
                       Offload offload = Offload::no) {
  PlanRequest request;
  request.runs = find_blocks(trace);
  const auto range = static_cast<double>(plain.live_peak_bytes - plain.static_bytes);
  request.budget_bytes = plain.static_bytes + static_cast<Bytes>(part * range);
  if (offload == Offload::yes) request.host_budget_bytes = plain.live_peak_bytes;
  return request;
}

constexpr int most_tenths = 9;
constexpr int least_tenths = 2;

// One planner at one budget.
struct Entry {
  std::optional<double> overhead_percent;  // of the plain step; absent: no plan
  double gap_percent = 0;
  double seconds = 0;
};

std::vector<Entry> entries_of(const Planner& planner, const NamedStep& step,
                              const StepFigures& plain, Offload offload) {
  std::vector<Entry> entries;
  for (int tenths = most_tenths; tenths >= least_tenths; --tenths) {
    const PlanRequest request = request_at(step.trace, plain, tenths / 10.0, offload);
    const Cell cell = run(planner, step.trace, request);
    Entry& entry = entries.emplace_back();
    entry.seconds = cell.seconds;
    if (!cell.plan) continue;
    const double time = *cell.plan->prediction.figures.step_seconds / *plain.step_seconds;
    entry.overhead_percent = 100 * (time - 1);
    entry.gap_percent = 100 * *cell.plan->gap;
  }
  return entries;
}

void print_line(const std::string& title, const std::vector<Entry>& entries,
                std::optional<double> (*figure)(const Entry&)) {
  std::printf("| %s ", title.c_str());
  for (const Entry& entry : entries) {
    const std::optional<double> value = figure(entry);
    if (value) {
      std::printf("| %.2f ", *value);
    } else {
      std::printf("| - ");
    }
  }
  std::printf("|\n");
  std::fflush(stdout);
}

void print_table(const NamedStep& step) {
  if (const auto broken = check_trace(step.trace); !broken.empty()) {
    std::printf("%s: %s\n", step.name.c_str(), broken.front().c_str());
    return;
  }
  const StepFigures plain = plain_figures(step.trace);
  if (!plain.step_seconds) {
    std::printf("%s: no times\n", step.name.c_str());
    return;
  }
  std::printf("\n%s: %zu operators, peak %.1f MiB, static %.1f MiB\n\n", step.name.c_str(),
              step.trace.ops.size(), static_cast<double>(plain.live_peak_bytes) / (1 << 20),
              static_cast<double>(plain.static_bytes) / (1 << 20));
  std::printf("| budget ");
  for (int tenths = most_tenths; tenths >= least_tenths; --tenths) std::printf("| 0.%d ", tenths);
  std::printf("|\n|---");
  for (int tenths = most_tenths; tenths >= least_tenths; --tenths) std::printf("|---");
  std::printf("|\n");
  for (const Planner* planner : planners()) {
    const std::vector<Entry> entries = entries_of(*planner, step, plain, Offload::no);
    print_line(std::string(planner->name()), entries,
               [](const Entry& entry) { return entry.overhead_percent; });
    if (planner->name() != "tide") continue;
    print_line("proven gap of tide", entries, [](const Entry& entry) {
      return entry.overhead_percent ? std::optional(entry.gap_percent) : std::nullopt;
    });
    print_line("seconds to plan it", entries,
               [](const Entry& entry) { return std::optional(entry.seconds); });
    const TraceDevice& device = step.trace.device;
    if (!device.copy_bytes_per_second && !device.transfer_rates) continue;
    const std::vector<Entry> offloading = entries_of(*planner, step, plain, Offload::yes);
    print_line("tide with offload", offloading,
               [](const Entry& entry) { return entry.overhead_percent; });
    print_line("its proven gap", offloading, [](const Entry& entry) {
      return entry.overhead_percent ? std::optional(entry.gap_percent) : std::nullopt;
    });
    print_line("seconds to plan it", offloading,
               [](const Entry& entry) { return std::optional(entry.seconds); });
  }
}

std::vector<NamedStep> built_in_steps() {
  std::vector<NamedStep> steps;
  steps.push_back({"transformer, 12 blocks", test::transformer_step(12)});
  steps.push_back({"ResNet-50", test::resnet_step()});
  steps.push_back({"U-Net", test::unet_step()});
  steps.push_back({"DenseNet-121", test::densenet_step()});
  steps.push_back({"random layers", test::layered_step(400, 1)});
  steps.push_back({"chain of 100", test::chain_step(100, 1)});
  return steps;
}

void print_growth() {
  std::printf("\nPlanning time at half the activation memory, transformer of growing depth\n\n");
  std::printf("| operators | tide %% | gap %% | seconds |\n");
  for (const int operators : {500, 1000, 2000, 5000, 10'000, 20'000}) {
    // A block has 21 operators, forward and backward.
    const StepTrace trace = test::transformer_step(operators / 21);
    const StepFigures plain = plain_figures(trace);
    const PlanRequest request = request_at(trace, plain, 0.5);
    for (const Planner* planner : planners()) {
      if (planner->name() != "tide") continue;
      const Cell cell = run(*planner, trace, request);
      const double time =
          cell.plan ? *cell.plan->prediction.figures.step_seconds / *plain.step_seconds : 0;
      std::printf("| %zu | %.2f | %.2f | %.2f |\n", trace.ops.size(), 100 * (time - 1),
                  cell.plan ? 100 * *cell.plan->gap : 0, cell.seconds);
      std::fflush(stdout);
    }
  }
}

int main_of(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments.front() == "--growth") {
    print_growth();
    return 0;
  }
  std::vector<NamedStep> steps;
  for (const std::string& file : arguments) steps.push_back({file, read_step_trace(file)});
  if (steps.empty()) steps = built_in_steps();
  for (const NamedStep& step : steps) print_table(step);
  return 0;
}

}  // namespace
}  // namespace tidemark

int main(int argc, char** argv) {
  try {
    return tidemark::main_of({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
