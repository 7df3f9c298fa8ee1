#include "command_plan.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <optional>
#include <ostream>
#include <span>
#include <variant>

#include "interrupt.hpp"
#include "open_step.hpp"
#include "plan_run.hpp"
#include "sweep_run.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

// Points of a Pareto front, from keeping everything down to this share of the step's own memory.
constexpr int pareto_points = 12;
constexpr double smallest_share = 0.15;

struct PlanOptions {
  OpenStepOptions step;
  ExecuteOptions execute;
  const Planner* planner = nullptr;
  PlanRequest request;
  std::optional<std::string> blocks;
  std::string alloc_conf;
  std::optional<Limit> limit;  // absent: reserved where there is an allocator, else live
  std::optional<double> time_limit_seconds;
  bool is_pareto = false;
  bool prints_json = false;
  bool is_strict = false;
  std::optional<std::string> output;
};

po::options_description describe_plan_options() {
  po::options_description options("options");
  add_record_options(options);
  const auto word = [] { return po::value<std::string>(); };
  options.add_options()("budget", word(), "bytes that the step may need, such as 6GiB")(
      "host-budget", word(), "bytes of pinned host memory for offloaded values; none without it")(
      "limit", word()->default_value("automatic"),
      "which peak the budget limits: live, allocated, reserved")(
      "alloc-conf", word(), "allocator settings as PYTORCH_ALLOC_CONF has them, for a GPU's step")(
      "planner", word()->default_value("tide"), "tidemark list planners tells which there are")(
      "granularity", word()->default_value("op"), "op, or block: what every framework can express")(
      "effort", po::value<std::int32_t>()->default_value(1), "multiples of a planner's usual work")(
      "time-limit", po::value<double>(), "seconds after which the best plan so far is taken")(
      "pareto", "a plan for each of twelve budgets; the default without --budget")(
      "blocks", word(), "pattern of module paths that are the blocks, such as model.layers.*")(
      "execute", "execute the plan and compare")(
      "repeat", po::value<std::int32_t>()->default_value(1), "measured executions")(
      "values-from", word(), "the .pt2 whose values a saved trace executes with")(
      "strict", "calls that a phantom GPU cannot answer exactly are an error")(
      "json", "print the plan as JSON")("output,o", word(),
                                        "the plan.json to write; a folder with --pareto");
  return options;
}

PlanOptions read_plan_options(const po::variables_map& given) {
  PlanOptions options;
  options.step = {.record = read_record_request(given, given["TRACE"].as<std::string>()),
                  .values_from = option<std::string>(given, "values-from"),
                  .executes = given.count("execute") != 0};
  options.execute.repeat = given["repeat"].as<std::int32_t>();
  if (options.execute.repeat < 1) throw UsageError("--repeat takes a positive number");
  options.planner =
      planners()[choose("planner", given["planner"].as<std::string>(), planner_names())];
  PlanRequest& request = options.request;
  if (const auto budget = option<std::string>(given, "budget")) {
    request.budget_bytes = parse_bytes(*budget);
  }
  if (const auto budget = option<std::string>(given, "host-budget")) {
    request.host_budget_bytes = parse_bytes(*budget);
  }
  options.alloc_conf = parse_alloc_conf(option<std::string>(given, "alloc-conf").value_or(""));
  const std::size_t limit = choose("limit", given["limit"].as<std::string>(),
                                   {"live", "allocated", "reserved", "automatic"});
  if (limit < 3) options.limit = static_cast<Limit>(limit);
  request.granularity = static_cast<Granularity>(
      choose("granularity", given["granularity"].as<std::string>(), {"op", "block"}));
  request.effort = given["effort"].as<std::int32_t>();
  if (request.effort < 1) throw UsageError("--effort takes a positive number");
  options.blocks = option<std::string>(given, "blocks");
  options.time_limit_seconds = option<double>(given, "time-limit");
  if (options.time_limit_seconds && !(*options.time_limit_seconds > 0)) {
    throw UsageError("--time-limit takes a positive number of seconds");
  }
  options.is_pareto = given.count("pareto") != 0 || !request.budget_bytes;
  if (given.count("pareto") != 0 && request.budget_bytes) {
    throw UsageError("--pareto chooses the budgets itself; leave --budget out");
  }
  options.prints_json = given.count("json") != 0;
  options.is_strict = given.count("strict") != 0;
  options.output = option<std::string>(given, "output");
  return options;
}

// Fills in what the step decides.
PlanRequest make_request(const PlanOptions& options, const StepTrace& trace) {
  PlanRequest request = options.request;
  check_alloc_conf(trace, options.alloc_conf);
  request.runs = find_blocks(trace, options.blocks);
  request.simulation = simulation_under(trace, options.alloc_conf);
  request.limit = options.limit ? *options.limit : usual_limit(plain_figures(trace));
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> deadline;
  if (options.time_limit_seconds) {
    deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(*options.time_limit_seconds));
  }
  request.should_stop = [deadline] {
    return InterruptGuard::was_interrupted() || (deadline && Clock::now() >= *deadline);
  };
  return request;
}

std::string level(const StepTrace& trace, const BoundPeak& peak) {
  return format_bytes(peak.bytes) + (peak.op ? " during " + describe_op(trace, peak.op) : "");
}

ExitCode tell_infeasible(const StepTrace& trace, const PlanOptions& options,
                         const Infeasible& infeasible, const Streams& streams) {
  const Bytes budget = options.request.budget_bytes.value_or(0);
  streams.err << "tidemark: no plan by " << options.planner->name() << " fits "
              << format_bytes(budget);
  if (infeasible.smallest_reached) {
    streams.err << "; the smallest it reached needs " << level(trace, *infeasible.smallest_reached);
  }
  streams.err << "; no schedule of this step needs less than "
              << level(trace, infeasible.lower_bound)
              << (infeasible.lower_bound.bytes > budget ? ", so none can fit" : "") << '\n';
  return ExitCode::nothing_fits;
}

ExitCode plan_for_budget(const PlanOptions& options, const OpenedStep& step,
                         const Streams& streams) {
  const PlanRequest request = make_request(options, step.trace);
  const PlanOutcome outcome = run_planner(*options.planner, step.trace, request);
  if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
    return tell_infeasible(step.trace, options, *infeasible, streams);
  }
  PlanFile plan = to_plan_file(step.trace, request, options.alloc_conf, std::get<Plan>(outcome));
  plan.notes.insert(plan.notes.begin(), step.notes.begin(), step.notes.end());
  ExitCode code = ExitCode::done;
  if (step.execution) {
    code = execute_plan(step.trace, *step.execution, options.execute, plan, streams);
  }
  note_unanswered_calls(step.trace, plan.notes);
  if (options.prints_json) {
    streams.out << format_plan(plan);
  } else {
    print_plan(step.trace, plan, streams.out);
  }
  if (options.output) write_file(*options.output, format_plan(plan));
  return code;
}

// Budgets in equal steps from what keeping everything needs down to a share of it.
std::vector<Bytes> pareto_budgets(const StepTrace& trace, Limit limit) {
  const StepFigures plain = plain_figures(trace);
  const Bytes peak = peak_bytes(plain, limit).value_or(plain.live_peak_bytes);
  const auto own = static_cast<double>(peak - plain.static_bytes);
  std::vector<Bytes> budgets;
  for (int i = 0; i < pareto_points; ++i) {
    const double share = 1 - (1 - smallest_share) * i / (pareto_points - 1);
    budgets.push_back(plain.static_bytes + static_cast<Bytes>(own * share));
  }
  return budgets;
}

void print_point(const PlanFile& plan, const StepFigures& plain, std::ostream& out) {
  const StepFigures& figures = plan.predicted;
  const auto cell = [&](const std::string& text) { out << std::setw(12) << text; };
  cell(format_bytes(*plan.budget_bytes));
  cell(format_bytes(peak_bytes(figures, plan.limit).value_or(figures.live_peak_bytes)));
  cell(figures.step_seconds ? format_seconds(*figures.step_seconds) : "-");
  cell(figures.step_seconds && plain.step_seconds
           ? format_seconds(*figures.step_seconds - *plain.step_seconds)
           : "-");
  cell(plan.lower_bound_seconds ? format_seconds(*plan.lower_bound_seconds) : "-");
  out << '\n';
}

ExitCode plan_front(const PlanOptions& options, const OpenedStep& step, const Streams& streams) {
  PlanRequest request = make_request(options, step.trace);
  const StepFigures plain = plain_figures(step.trace);
  std::vector<std::string> notes = step.notes;  // the same of every point
  note_unanswered_calls(step.trace, notes);
  if (!options.prints_json) {
    for (const char* title : {"budget", "peak", "step time", "overhead", "bound"}) {
      streams.out << std::setw(12) << title;
    }
    streams.out << '\n';
  }
  if (options.output) make_folder(*options.output);
  int n = 0;
  std::string json;
  for (const Bytes budget : pareto_budgets(step.trace, request.limit)) {
    request.budget_bytes = budget;
    const PlanOutcome outcome = run_planner(*options.planner, step.trace, request);
    if (const auto* infeasible = std::get_if<Infeasible>(&outcome)) {
      PlanOptions asked = options;
      asked.request.budget_bytes = budget;
      (void)tell_infeasible(step.trace, asked, *infeasible, streams);
      break;
    }
    PlanFile plan = to_plan_file(step.trace, request, options.alloc_conf, std::get<Plan>(outcome));
    plan.notes.insert(plan.notes.begin(), notes.begin(), notes.end());
    if (options.prints_json) {
      std::string text = format_plan(plan);
      text.pop_back();
      json += (json.empty() ? "" : ",\n") + text;
    } else {
      print_point(plan, plain, streams.out);
    }
    if (options.output) {
      const std::string file = "plan-" + std::to_string(n) + ".json";
      write_file((std::filesystem::path(*options.output) / file).string(), format_plan(plan));
    }
    ++n;
    if (InterruptGuard::was_interrupted()) break;
  }
  if (options.prints_json) {
    streams.out << "[" << json << "]\n";
  } else {
    for (const std::string& note : notes) streams.out << "note: " << note << '\n';
  }
  return n == 0 ? ExitCode::nothing_fits : ExitCode::done;
}

}  // namespace

ExitCode run_plan(const Arguments& arguments, const Streams& streams) {
  const auto given =
      parse_options("plan", "TRACE is an exported program (.pt2) or a recorded step (.json.gz).",
                    describe_plan_options(), {"TRACE"}, arguments, streams);
  if (!given) return ExitCode::done;
  const PlanOptions options = read_plan_options(*given);
  if (options.is_pareto && options.step.executes) {
    throw UsageError("--execute executes one plan; give its --budget");
  }
  if (options.output) {
    options.is_pareto ? check_folder(*options.output) : check_writable(*options.output);
  }
  Arguments line{"plan"};
  line.insert(line.end(), arguments.begin(), arguments.end());
  const OpenedStep step = open_step(options.step, line, streams);
  const InterruptGuard guard;
  const ExitCode code = options.is_pareto ? plan_front(options, step, streams)
                                          : plan_for_budget(options, step, streams);
  return judge_unanswered_calls(code, step.trace, options.is_strict, streams);
}

}  // namespace tidemark
