#include "command_run.hpp"

#include <ostream>

#include "open_step.hpp"
#include "plan_run.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

// A plan speaks of the operators of one step by number.
void check_belongs(const std::string& path, const PlanFile& plan, const StepTrace& trace) {
  if (plan.fingerprint != fingerprint(trace)) {
    throw InputError(path, "fingerprint",
                     "the plan is for another step than this one; plan again with this trace");
  }
  const std::vector<Violation> violations = validate(trace, plan.schedule);
  if (violations.empty()) return;
  throw InputError(path, "schedule.steps[" + std::to_string(violations.front().step) + "]",
                   violations.front().message + "; plan again");
}

}  // namespace

ExitCode run_run(const Arguments& arguments, const Streams& streams) {
  po::options_description options("options");
  add_record_options(options);
  options.add_options()("plan", po::value<std::string>(), "the plan.json to execute")(
      "repeat", po::value<std::int32_t>()->default_value(1), "measured executions")(
      "strict", "calls that a phantom GPU cannot answer exactly are an error")(
      "values-from", po::value<std::string>(), "the .pt2 whose values a saved trace executes with")(
      "json", "print the plan as JSON")("output,o", po::value<std::string>(),
                                        "write the plan with what was measured");
  const auto given =
      parse_options("run", "TRACE is an exported program (.pt2) or a recorded step (.json.gz).",
                    options, {"TRACE"}, arguments, streams);
  if (!given) return ExitCode::done;
  if (given->count("plan") == 0) throw UsageError("tidemark run needs --plan plan.json");
  const auto path = (*given)["plan"].as<std::string>();
  PlanFile plan = read_plan(path);
  const auto output = option<std::string>(*given, "output");
  if (output) check_writable(*output);
  Arguments line{"run"};
  line.insert(line.end(), arguments.begin(), arguments.end());
  const OpenedStep step =
      open_step({.record = read_record_request(*given, (*given)["TRACE"].as<std::string>()),
                 .values_from = option<std::string>(*given, "values-from"),
                 .executes = true},
                line, streams);
  check_belongs(path, plan, step.trace);
  if (!step.execution) throw UsageError("the trace carries no calls, so no plan can be executed");
  const ExecuteOptions execute{
      .repeat = (*given)["repeat"].as<std::int32_t>(), .warm_up = 1, .alloc_conf = {}};
  if (execute.repeat < 1) throw UsageError("--repeat takes a positive number");
  const ExitCode code = execute_plan(step.trace, *step.execution, execute, plan, streams);
  note_unanswered_calls(step.trace, plan.notes);
  if (given->count("json") != 0) {
    streams.out << format_plan(plan);
  } else {
    print_plan(step.trace, plan, streams.out);
  }
  if (output) write_file(*output, format_plan(plan));
  return judge_unanswered_calls(code, step.trace, given->count("strict") != 0, streams);
}

}  // namespace tidemark
