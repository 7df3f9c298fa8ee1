// What `plan` and `run` share: executing a plan, and telling of it.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "tidemark/device.hpp"
#include "tidemark/io.hpp"
#include "tidemark/planner.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// The recorded step as it is.
[[nodiscard]] StepFigures plain_figures(const StepTrace& trace);

// The peak that a budget limits where nothing else is asked for: reserved where there is an
// allocator, else live.
[[nodiscard]] Limit usual_limit(const StepFigures& plain);

// Refuses allocator settings where no caching allocator runs (UsageError).
void check_alloc_conf(const StepTrace& trace, const std::string& alloc_conf);
// That allocator under a value of PYTORCH_ALLOC_CONF, and what it can take.
[[nodiscard]] SimulateOptions simulation_under(const StepTrace& trace,
                                               const std::string& alloc_conf);
// What --alloc-conf takes, where "default" is torch's own: checked, and empty for that.
[[nodiscard]] std::string parse_alloc_conf(const std::string& text);

// What --planner takes, in the order of planners().
[[nodiscard]] std::vector<std::string> planner_names();

// The plan as plan.json holds it, not executed yet. The request's simulation is of `alloc_conf`.
[[nodiscard]] PlanFile to_plan_file(const StepTrace& trace, const PlanRequest& request,
                                    const std::string& alloc_conf, const Plan& plan);

// Executes the plan's schedule under its allocator settings, fills in `measured` and `gradients`,
// and judges: failed where the gradients differ or memory ran out, differs where a measured peak is
// not the predicted one.
[[nodiscard]] ExitCode execute_plan(const StepTrace& trace, Execution& execution,
                                    ExecuteOptions options, PlanFile& plan, const Streams& streams);

// As a person reads it: budget, peak and where it binds, time beside the plain step's, bound and
// gap, what is recomputed and offloaded, and what was measured.
void print_plan(const StepTrace& trace, const PlanFile& plan, std::ostream& out);

}  // namespace tidemark
