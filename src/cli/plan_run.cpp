#include "plan_run.hpp"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <utility>

#include "peak_differences.hpp"
#include "sweep_run.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/placement.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

std::string during(const StepTrace& trace, const std::optional<OpId>& op) {
  return op ? " during " + describe_op(trace, op) : "";
}

void print_time(const StepFigures& figures, const StepFigures& plain, std::ostream& out) {
  if (!figures.step_seconds || !plain.step_seconds) {
    out << "time       not known: the trace has no times\n";
    return;
  }
  const double more = *figures.step_seconds - *plain.step_seconds;
  out << "time       " << format_seconds(*figures.step_seconds) << ", "
      << format_seconds(std::abs(more)) << " (" << format_percent(more / *plain.step_seconds)
      << ") " << (more < 0 ? "less" : "more") << " than keeping everything, which peaks at "
      << format_bytes(plain.live_peak_bytes) << '\n';
}

// The caching allocator's rounding on a GPU, the CPU allocator's alignment elsewhere.
Bytes packed_bytes(const StepTrace& trace, const Schedule& schedule) {
  const Bytes alignment = is_gpu(trace.device.kind) ? 512 : 64;
  constexpr std::int64_t most_tries = 200'000;
  Bytes statics = 0;
  for (std::int32_t i = 0; i < schedule.initial_instances; ++i) {
    const Instance& instance = schedule.instances[static_cast<std::size_t>(i)];
    if (!is_on_device(trace, instance.storage)) continue;
    statics += (instance.bytes + alignment - 1) / alignment * alignment;
  }
  const Placement placement =
      place(device_lifetimes(trace, schedule, alignment), {.tries = most_tries, .should_stop = {}});
  return statics + placement.height;
}

void print_measured(const PlanFile& plan, std::ostream& out) {
  if (!plan.measured) return;
  const StepFigures& measured = plan.measured->figures;
  out << "measured   " << format_bytes(measured.live_peak_bytes) << ", "
      << measured.live_peak_bytes - plan.predicted.live_peak_bytes << " B from predicted";
  if (measured.step_seconds) out << ", " << format_seconds(*measured.step_seconds);
  out << ", gradients " << name(plan.gradients) << '\n';
}

// What a framework can be told of the plan.
void print_modules(const PlanFile& plan, std::ostream& out) {
  const ModuleForms& modules = plan.modules;
  if (modules.is_exact || modules.rows.empty()) return;
  const StepFigures* figures = nullptr;
  out << "modules    ";
  if (modules.selective) {
    figures = &modules.selective->predicted;
    out << "selective checkpointing of " << modules.selective->segments.size() << " blocks";
  } else if (modules.row) {
    figures = &*modules.rows[*modules.row].predicted;
    out << "setting " << describe(modules.rows[*modules.row].setting);
  } else {
    out << "no setting of whole blocks or kept operators stays within the budget\n";
    return;
  }
  out << ", " << format_bytes(peak_bytes(*figures, plan.limit).value_or(figures->live_peak_bytes));
  if (figures->step_seconds) out << ", " << format_seconds(*figures->step_seconds);
  out << ": what tidemark.apply() puts into force\n";
}

}  // namespace

std::vector<std::string> planner_names() {
  std::vector<std::string> names;
  for (const Planner* planner : planners()) names.emplace_back(planner->name());
  return names;
}

void check_alloc_conf(const StepTrace& trace, const std::string& alloc_conf) {
  if (alloc_conf.empty() || is_gpu(trace.device.kind)) return;
  throw UsageError("--alloc-conf is for steps of a GPU, and this one was recorded on " +
                   std::string(name(trace.device.kind)) +
                   ", where no caching allocator runs; leave it out");
}

SimulateOptions simulation_under(const StepTrace& trace, const std::string& alloc_conf) {
  return {.allocator = parse_allocator_settings(alloc_conf),
          .device = {.total_bytes = trace.device.memory_bytes,
                     .taken_bytes = trace.device.context_bytes.value_or(0)}};
}

std::string parse_alloc_conf(const std::string& text) {
  const std::string alloc_conf = text == "default" ? "" : text;
  (void)parse_allocator_settings(alloc_conf);  // refuses what torch refuses
  return alloc_conf;
}

PlanFile to_plan_file(const StepTrace& trace, const PlanRequest& request,
                      const std::string& alloc_conf, const Plan& plan) {
  return {.fingerprint = fingerprint(trace),
          .planner = plan.planner,
          .budget_bytes = request.budget_bytes,
          .limit = request.limit,
          .alloc_conf = alloc_conf,
          .truncated = plan.truncated,
          .predicted = plan.prediction.figures,
          .packed_bytes = packed_bytes(trace, plan.schedule),
          .lower_bound_seconds = plan.lower_bound_seconds,
          .gap = plan.gap,
          .decisions = describe_decisions(trace, plan.schedule),
          .notes = plan.notes,
          .modules = module_forms(trace, request, plan),
          .schedule = plan.schedule,
          .measured = {},
          .gradients = GradientVerdict::not_run};
}

StepFigures plain_figures(const StepTrace& trace) {
  return simulate(trace, plain_schedule(trace)).figures;
}

Limit usual_limit(const StepFigures& plain) {
  return plain.reserved_peak_bytes ? Limit::reserved : Limit::live;
}

ExitCode execute_plan(const StepTrace& trace, Execution& execution, ExecuteOptions options,
                      PlanFile& plan, const Streams& streams) {
  options.alloc_conf = plan.alloc_conf;
  const Measurement measurement = execution.execute(plan.schedule, options);
  if (measurement.out_of_memory) {
    streams.err << "tidemark: " << *measurement.out_of_memory << '\n';
    return ExitCode::failed;
  }
  plan.measured = MeasuredFigures{.figures = measurement.figures,
                                  .step_seconds_noise = measurement.step_seconds_noise};
  plan.gradients = measurement.gradients;
  plan.notes.insert(plan.notes.end(), measurement.notes.begin(), measurement.notes.end());
  if (plan.gradients == GradientVerdict::differ) return ExitCode::failed;
  ExitCode code = ExitCode::done;
  const StepFigures expected =
      simulate(trace, plan.schedule, simulation_under(trace, plan.alloc_conf)).figures;
  for (const PeakDifference& difference : peak_differences(measurement.figures, expected)) {
    if (difference.bytes == 0) continue;
    streams.err << "measured " << difference.peak << " differs from the predicted one by "
                << difference.bytes << " B\n";
    code = ExitCode::differs;
  }
  return code;
}

void print_plan(const StepTrace& trace, const PlanFile& plan, std::ostream& out) {
  const StepFigures& figures = plan.predicted;
  out << "plan       by " << plan.planner;
  if (plan.budget_bytes) {
    out << " within " << format_bytes(*plan.budget_bytes) << " (" << name(plan.limit) << ")";
  }
  if (!plan.alloc_conf.empty()) out << " under " << plan.alloc_conf;
  out << (plan.truncated ? ", ended early" : "") << '\n';
  const Bytes peak = peak_bytes(figures, plan.limit).value_or(figures.live_peak_bytes);
  out << "peak       " << format_bytes(peak) << during(trace, figures.peak_op) << "; static "
      << format_bytes(figures.static_bytes) << '\n';
  if (plan.packed_bytes) {
    out << "packed     " << format_bytes(*plan.packed_bytes)
        << " with a fixed offset for everything, without an allocator\n";
  }
  print_time(figures, plain_figures(trace), out);
  if (plan.lower_bound_seconds && plan.gap) {
    out << "bound      no schedule within the budget takes less than "
        << format_seconds(*plan.lower_bound_seconds) << ": the gap is at most "
        << format_percent(std::max(0.0, *plan.gap)) << " of the step\n";
  }
  if (figures.host_peak_bytes > 0) {
    out << "host       " << format_bytes(figures.host_peak_bytes) << ", "
        << format_bytes(figures.transfer_bytes) << " moved\n";
  }
  print_measured(plan, out);
  print_modules(plan, out);
  for (const std::string& decision : plan.decisions) out << "  " << decision << '\n';
  for (const std::string& note : plan.notes) out << "note: " << note << '\n';
}

}  // namespace tidemark
