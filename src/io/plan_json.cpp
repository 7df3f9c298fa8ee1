// plan.json, one field after the other. Documented in the README.
#include <filesystem>
#include <utility>

#include "schedule_json.hpp"
#include "sweep_json.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

constexpr const char* plan_format = "tidemark.plan";
constexpr std::int32_t newest_plan_version = 1;
constexpr std::size_t limit_count = 3;

OrderedJson to_json(const OperatorCalls& calls) {
  return {{"name", calls.name},
          {"overload", calls.overload},
          {"count", calls.count},
          {"kept", calls.kept}};
}

OperatorCalls read_calls(const JsonCursor& json) {
  OperatorCalls calls;
  calls.name = json.at("name").string();
  calls.overload = json.at("overload").string();
  calls.count = json.at("count").small_integer();
  calls.kept = json.at("kept").list<std::int32_t>(
      [](const JsonCursor& call) { return call.small_integer(); });
  return calls;
}

OrderedJson to_json(const SelectiveForm& form) {
  OrderedJson operators = OrderedJson::array();
  for (const std::vector<OperatorCalls>& of_segment : form.operators) {
    OrderedJson list = OrderedJson::array();
    for (const OperatorCalls& calls : of_segment) list.push_back(to_json(calls));
    operators.push_back(std::move(list));
  }
  OrderedJson json;
  json["segments"] = form.segments;
  json["operators"] = std::move(operators);
  json["predicted"] = figures_to_json(form.predicted);
  return json;
}

SelectiveForm read_selective(const JsonCursor& json) {
  SelectiveForm form;
  form.segments = json.at("segments").list<std::vector<std::string>>([](const JsonCursor& segment) {
    return segment.strings();
  });
  form.operators =
      json.at("operators").list<std::vector<OperatorCalls>>([](const JsonCursor& segment) {
        return segment.list<OperatorCalls>(read_calls);
      });
  if (form.operators.size() != form.segments.size()) {
    json.at("operators").fail("holds another number of segments than segments does");
  }
  form.predicted = read_figures(json.at("predicted"));
  return form;
}

OrderedJson to_json(const ModuleForms& modules) {
  OrderedJson json;
  json["row"] = or_null(modules.row);
  json["is_exact"] = modules.is_exact;
  json["block_class"] = modules.block_class;
  json["selective"] = modules.selective ? to_json(*modules.selective) : OrderedJson(nullptr);
  json["rows"] = OrderedJson::array();
  for (const SweepRow& row : modules.rows) json["rows"].push_back(row_to_json(row));
  return json;
}

ModuleForms read_modules(const JsonCursor& json) {
  ModuleForms modules;
  modules.rows = json.at("rows").list<SweepRow>(read_row);
  for (const SweepRow& row : modules.rows) {
    if (!row.predicted) json.at("rows").fail("holds a row that has no prediction");
  }
  if (const auto row = json.find("row")) {
    modules.row = static_cast<std::size_t>(
        row->integer(0, static_cast<std::int64_t>(modules.rows.size()) - 1));
  }
  modules.is_exact = json.at("is_exact").boolean();
  modules.block_class = json.at("block_class").string();
  if (const auto form = json.find("selective")) modules.selective = read_selective(*form);
  return modules;
}

}  // namespace

std::string format_plan(const PlanFile& plan) {
  OrderedJson json;
  json["format"] = plan_format;
  json["schema_version"] = newest_plan_version;
  json["fingerprint"] = plan.fingerprint;
  json["planner"] = plan.planner;
  json["budget_bytes"] = or_null(plan.budget_bytes);
  json["limit"] = name(plan.limit);
  json["alloc_conf"] = plan.alloc_conf;
  json["truncated"] = plan.truncated;
  json["predicted"] = figures_to_json(plan.predicted);
  json["packed_bytes"] = or_null(plan.packed_bytes);
  json["lower_bound_seconds"] = or_null(plan.lower_bound_seconds);
  json["gap"] = or_null(plan.gap);
  json["decisions"] = plan.decisions;
  json["notes"] = plan.notes;
  json["modules"] = to_json(plan.modules);
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
  if (const auto conf = root.find("alloc_conf")) plan.alloc_conf = conf->string();
  plan.truncated = root.at("truncated").boolean();
  plan.predicted = read_figures(root.at("predicted"));
  if (const auto packed = root.find("packed_bytes")) plan.packed_bytes = packed->bytes();
  if (const auto bound = root.find("lower_bound_seconds")) {
    plan.lower_bound_seconds = bound->number_from_zero();
  }
  if (const auto gap = root.find("gap")) plan.gap = gap->number();
  plan.decisions = root.at("decisions").strings();
  if (const auto notes = root.find("notes")) plan.notes = notes->strings();
  // Absent in files of the first versions.
  if (const auto modules = root.find("modules")) plan.modules = read_modules(*modules);
  plan.schedule = read_schedule(root.at("schedule"));
  plan.measured = find_measured(root);
  if (const auto verdict = root.find("gradients")) plan.gradients = read_verdict(*verdict);
  return plan;
}

bool is_plan(const std::string& path) {
  if (std::filesystem::is_directory(path)) return false;
  try {
    const Json document = parse_document(path, read_file(path));
    return document.is_object() && document.contains("format") && document["format"] == plan_format;
  } catch (const InputError&) {
    return false;
  }
}

PlanFile read_plan(const std::string& path) { return parse_plan(path, read_file(path)); }

}  // namespace tidemark
