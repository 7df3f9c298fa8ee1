#include "command_compare.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "options.hpp"
#include "text_table.hpp"
#include "tidemark/compare.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

Json number(const std::optional<double>& value, bool is_bytes) {
  if (!value) return nullptr;
  return is_bytes ? Json(static_cast<Bytes>(*value)) : Json(*value);
}

Json to_json(const std::vector<ComparedRow>& rows) {
  Json json{{"differs", false}, {"rows", Json::array()}};
  for (const ComparedRow& row : rows) {
    if (row.differs()) json["differs"] = true;
    Json line{{"setting", row.title},     {"in_a", row.in_first},   {"in_b", row.in_second},
              {"differs", row.differs()}, {"changes", row.changes}, {"figures", Json::array()}};
    for (const Compared& figure : row.figures) {
      const auto change = figure.change_percent();
      line["figures"].push_back({{"name", figure.name},
                                 {"a", number(figure.first, figure.is_bytes)},
                                 {"b", number(figure.second, figure.is_bytes)},
                                 {"unit", figure.is_bytes ? "bytes" : "seconds"},
                                 {"change_percent", change ? Json(*change) : Json(nullptr)},
                                 {"differs", figure.differs}});
    }
    json["rows"].push_back(std::move(line));
  }
  return json;
}

std::string shown(const std::optional<double>& value, bool is_bytes) {
  if (!value) return "-";
  return is_bytes ? format_bytes(static_cast<Bytes>(*value)) : format_seconds(*value);
}

std::string shown_change(const Compared& figure) {
  if (figure.first == figure.second) return "0 %";
  const auto change = figure.change_percent();
  if (!change) return "-";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%+.*f %%", std::abs(*change) < 0.01 ? 6 : 2, *change);
  return text.data();
}

// Figures that are equal are left out, unless everything is asked for.
void print(const std::vector<ComparedRow>& rows, bool prints_all, std::ostream& out) {
  std::vector<std::vector<std::string>> lines{{"setting and figure", "A", "B", "change", ""}};
  std::size_t different = 0;
  for (const ComparedRow& row : rows) {
    different += row.differs() ? 1 : 0;
    if (!row.in_first || !row.in_second) {
      lines.push_back({row.title, row.in_first ? "there" : "missing",
                       row.in_second ? "there" : "missing", "", "differs"});
    }
    for (const std::string& change : row.changes) {
      lines.push_back({row.title + ", " + change, "", "", "", "differs"});
    }
    for (const Compared& figure : row.figures) {
      if (!prints_all && figure.first == figure.second) continue;
      if (!prints_all && !figure.is_bytes && !figure.differs) continue;
      lines.push_back({row.title + ", " + figure.name, shown(figure.first, figure.is_bytes),
                       shown(figure.second, figure.is_bytes), shown_change(figure),
                       figure.differs ? "differs" : ""});
    }
  }
  if (lines.size() > 1) {
    write_text_table(lines, out);
    out << '\n';
  }
  out << rows.size() << (rows.size() == 1 ? " row, " : " rows, ");
  if (different == 0) {
    out << "none differs\n";
  } else {
    out << different << (different == 1 ? " differs\n" : " differ\n");
  }
}

SweepRow as_row(const PlanFile& plan) {
  SweepRow row;
  row.predicted = plan.predicted;
  row.measured = plan.measured;
  row.gradients = plan.gradients;
  return row;
}

// What apply() puts into force.
std::optional<SweepRow> modules_row(const PlanFile& plan) {
  SweepRow row;
  if (plan.modules.selective) {
    row.predicted = plan.modules.selective->predicted;
  } else if (plan.modules.row) {
    row.predicted = plan.modules.rows[*plan.modules.row].predicted;
  } else {
    return std::nullopt;
  }
  return row;
}

std::string budget_of(const PlanFile& plan) {
  return (plan.budget_bytes ? format_bytes(*plan.budget_bytes) : "none") + " (" +
         std::string(name(plan.limit)) + ")";
}

std::vector<ComparedRow> compare_plans(const PlanFile& first, const PlanFile& second,
                                       const Tolerances& tolerances) {
  std::vector<ComparedRow> rows{compare_rows("plan", as_row(first), as_row(second), tolerances)};
  if (first.budget_bytes != second.budget_bytes || first.limit != second.limit) {
    rows.front().changes.push_back("budget: " + budget_of(first) + ", then " + budget_of(second));
  }
  const auto a = modules_row(first);
  const auto b = modules_row(second);
  if (a && b) {
    rows.push_back(compare_rows("plan by modules", *a, *b, tolerances));
  } else if (a || b) {
    rows.push_back({.title = "plan by modules",
                    .in_first = a.has_value(),
                    .in_second = b.has_value(),
                    .figures = {},
                    .changes = {}});
  }
  return rows;
}

struct Results {
  std::string first_fingerprint;
  std::string second_fingerprint;
  std::vector<ComparedRow> rows;
};

Results compare_files(const std::string& a, const std::string& b, const Tolerances& tolerances) {
  if (is_plan(a) != is_plan(b)) {
    throw UsageError("one of " + a + " and " + b +
                     " is a plan and the other is not; name two sweeps or two plans");
  }
  if (is_plan(a)) {
    const PlanFile first = read_plan(a);
    const PlanFile second = read_plan(b);
    return {first.fingerprint, second.fingerprint, compare_plans(first, second, tolerances)};
  }
  const auto first = open_sweep(a);
  const auto second = open_sweep(b);
  return {first->sweep().fingerprint, second->sweep().fingerprint,
          compare(first->sweep(), second->sweep(), tolerances)};
}

double percent(const boost::program_options::variables_map& given, const char* name) {
  const double value = given[name].as<double>();
  if (!(value >= 0))
    throw UsageError(std::string("--") + name + " takes a percentage of 0 or more");
  return value;
}

}  // namespace

ExitCode run_compare(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  po::options_description options("options");
  options.add_options()("tolerance", po::value<double>()->default_value(0),
                        "percent by which peaks may differ")(
      "time-tolerance", po::value<double>(),
      "percent by which step times may differ; without it they are not judged")(
      "all", "print also what is equal")("json", "for programs");
  const auto given = parse_options(
      "compare",
      "A and B are sweeps (folders or sweep.json files) or two plan.json files. Exit code 4: they "
      "differ.",
      options, {"A", "B"}, arguments, streams);
  if (!given) return ExitCode::done;
  Tolerances tolerances{.bytes_percent = percent(*given, "tolerance"), .time_percent = {}};
  if (given->count("time-tolerance") != 0) {
    tolerances.time_percent = percent(*given, "time-tolerance");
  }
  const Results results =
      compare_files((*given)["A"].as<std::string>(), (*given)["B"].as<std::string>(), tolerances);
  const std::vector<ComparedRow>& rows = results.rows;
  if (results.first_fingerprint != results.second_fingerprint) {
    streams.err << "A and B are of different steps\n";
  }
  if (given->count("json") != 0) {
    streams.out << to_json(rows).dump(2) << '\n';
  } else {
    print(rows, given->count("all") != 0, streams.out);
  }
  const bool differs =
      std::any_of(rows.begin(), rows.end(), [](const ComparedRow& row) { return row.differs(); });
  return differs ? ExitCode::differs : ExitCode::done;
}

}  // namespace tidemark
