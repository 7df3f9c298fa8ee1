// plan.json, one field after the other. Documented in the README.
#include <utility>

#include "schedule_json.hpp"
#include "sweep_json.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

constexpr const char* plan_format = "tidemark.plan";
constexpr std::int32_t newest_plan_version = 1;
constexpr std::size_t limit_count = 3;

}  // namespace

std::string format_plan(const PlanFile& plan) {
  OrderedJson json;
  json["format"] = plan_format;
  json["schema_version"] = newest_plan_version;
  json["fingerprint"] = plan.fingerprint;
  json["planner"] = plan.planner;
  json["budget_bytes"] = or_null(plan.budget_bytes);
  json["limit"] = name(plan.limit);
  json["truncated"] = plan.truncated;
  json["predicted"] = figures_to_json(plan.predicted);
  json["lower_bound_seconds"] = or_null(plan.lower_bound_seconds);
  json["gap"] = or_null(plan.gap);
  json["decisions"] = plan.decisions;
  json["notes"] = plan.notes;
  json["schedule"] = schedule_to_json(plan.schedule);
  json["measured"] = measured_to_json(plan.measured);
  json["gradients"] = name(plan.gradients);
  return to_text(json) + "\n";
}

PlanFile parse_plan(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  check_format(path, document, plan_format, newest_plan_version);
  const JsonCursor root(path, document, "");
  PlanFile plan;
  plan.fingerprint = root.at("fingerprint").string();
  plan.planner = root.at("planner").string();
  if (const auto budget = root.find("budget_bytes")) plan.budget_bytes = budget->bytes();
  if (const auto limit = root.find("limit")) {
    plan.limit = limit->enumeration<Limit>(limit_count, [](Limit value) { return name(value); });
  }
  plan.truncated = root.at("truncated").boolean();
  plan.predicted = read_figures(root.at("predicted"));
  if (const auto bound = root.find("lower_bound_seconds")) {
    plan.lower_bound_seconds = bound->number_from_zero();
  }
  if (const auto gap = root.find("gap")) plan.gap = gap->number();
  plan.decisions = root.at("decisions").strings();
  if (const auto notes = root.find("notes")) plan.notes = notes->strings();
  plan.schedule = read_schedule(root.at("schedule"));
  plan.measured = find_measured(root);
  if (const auto verdict = root.find("gradients")) plan.gradients = read_verdict(*verdict);
  return plan;
}

PlanFile read_plan(const std::string& path) { return parse_plan(path, read_file(path)); }

}  // namespace tidemark
