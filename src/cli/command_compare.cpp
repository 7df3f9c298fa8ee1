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
    Json line{
        {"setting", describe(row.setting)}, {"in_a", row.in_first},   {"in_b", row.in_second},
        {"differs", row.differs()},         {"changes", row.changes}, {"figures", Json::array()}};
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
    const std::string setting = describe(row.setting);
    if (!row.in_first || !row.in_second) {
      lines.push_back({setting, row.in_first ? "there" : "missing",
                       row.in_second ? "there" : "missing", "", "differs"});
    }
    for (const std::string& change : row.changes) {
      std::string title = setting;
      title.append(", ").append(change);
      lines.push_back({title, "", "", "", "differs"});
    }
    for (const Compared& figure : row.figures) {
      if (!prints_all && figure.first == figure.second) continue;
      if (!prints_all && !figure.is_bytes && !figure.differs) continue;
      lines.push_back({setting + ", " + figure.name, shown(figure.first, figure.is_bytes),
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
      "compare", "A and B are sweeps: folders or sweep.json files. Exit code 4: they differ.",
      options, {"A", "B"}, arguments, streams);
  if (!given) return ExitCode::done;
  Tolerances tolerances{.bytes_percent = percent(*given, "tolerance"), .time_percent = {}};
  if (given->count("time-tolerance") != 0) {
    tolerances.time_percent = percent(*given, "time-tolerance");
  }
  const auto first = open_sweep((*given)["A"].as<std::string>());
  const auto second = open_sweep((*given)["B"].as<std::string>());
  const std::vector<ComparedRow> rows = compare(first->sweep(), second->sweep(), tolerances);
  if (first->sweep().fingerprint != second->sweep().fingerprint) {
    streams.err << "the two sweeps are of different steps\n";
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
