#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "columns.hpp"
#include "sample_sweep.hpp"
#include "structural_damage.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;
using test::sample_sweep;

const Exporter& exporter(const std::string& name) {
  for (const Exporter* each : exporters()) {
    if (each->name() == name) return *each;
  }
  throw std::runtime_error("no exporter is called " + name);
}

std::string written(const std::string& format, const Sweep& sweep) {
  std::ostringstream out;
  exporter(format).write(SweepOnly(sweep), out);
  return out.str();
}

// Approved by a person; the tests run in the folder that golden/ lies in.
std::string golden(const std::string& name) {
  std::ifstream file("golden/" + name, std::ios::binary);
  REQUIRE(file.is_open());
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A reader of RFC 4180, written apart from the writer.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> records(1, std::vector<std::string>(1));
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    std::string& cell = records.back().back();
    if (is_quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      cell += text[++i];
    } else if (c == '"') {
      is_quoted = !is_quoted;
    } else if (!is_quoted && c == ',') {
      records.back().emplace_back();
    } else if (!is_quoted && c == '\r') {
      REQUIRE(text.at(++i) == '\n');
      records.emplace_back(1);
    } else {
      cell += c;
    }
  }
  REQUIRE(records.back() == std::vector<std::string>{""});
  records.pop_back();
  return records;
}

std::string csv_cell(const std::vector<std::vector<std::string>>& records, std::size_t row,
                     const std::string& field) {
  const auto& header = records.front();
  const auto found = std::find(header.begin(), header.end(), field);
  REQUIRE(found != header.end());
  return records.at(row + 1).at(static_cast<std::size_t>(found - header.begin()));
}

TEST_CASE("each format writes the approved text of the sample sweep", "[reports][golden]") {
  CHECK(written("table", sample_sweep()) == golden("sweep.table.txt"));
  CHECK(written("csv", sample_sweep()) == golden("sweep.csv"));
  CHECK(written("markdown", sample_sweep()) == golden("sweep.md"));
  CHECK(written("json", sample_sweep()) == golden("sweep.json"));
  CHECK(written("table", test::sample_sweep_without_times()) == golden("sweep_without_times.txt"));
}

TEST_CASE("the JSON report is sweep.json itself", "[reports]") {
  CHECK(written("json", sample_sweep()) == format_sweep(sample_sweep()));
  CHECK(parse_sweep("sweep.json", written("json", sample_sweep())) == sample_sweep());
}

TEST_CASE("every format is in the registry once, with a description", "[reports]") {
  std::vector<std::string> names;
  for (const Exporter* each : exporters()) {
    names.emplace_back(each->name());
    CHECK_FALSE(each->description().empty());
  }
  CHECK(names == std::vector<std::string>{"table", "csv", "markdown", "json", "html", "perfetto",
                                          "snapshot"});
}

TEST_CASE("a sweep without rows is a header and a legend", "[reports]") {
  const Sweep empty;
  CHECK(lines_of(written("table", empty)).size() == 4);
  CHECK(parse_csv(written("csv", empty)).size() == 1);
  CHECK(lines_of(written("markdown", empty)).size() == 5);
}

TEST_CASE("no line of the table ends in a blank and its columns line up", "[reports][table]") {
  const std::vector<std::string> lines = lines_of(written("table", sample_sweep()));
  for (const std::string& line : lines) {
    CHECK((line.empty() || line.back() != ' '));
  }
  // "error" is right-aligned: its last letter stands over the last one of each figure.
  const std::size_t end = lines[0].find("error") + 5;
  CHECK(lines[2].substr(end - 3, 3) == "0 B");
  CHECK(lines[4].substr(end - 6, 6) == "+512 B");
}

TEST_CASE("what the table counts in bytes is exact when it agrees", "[reports][table]") {
  Sweep sweep = sample_sweep();
  CHECK(people_row(sweep, sweep.rows[0]).cells[3] == "0 B");
  CHECK(people_row(sweep, sweep.rows[2]).cells[3] == "+512 B");
  sweep.rows[2].measured->figures.live_peak_bytes -= 1536;
  CHECK(people_row(sweep, sweep.rows[2]).cells[3] == "-1024 B");
}

TEST_CASE("the error compares the peaks that are shown", "[reports][table]") {
  Sweep sweep = sample_sweep();
  SweepRow& row = sweep.rows[0];
  row.predicted->reserved_peak_bytes = 3000;
  row.measured->figures.reserved_peak_bytes = 3072;
  CHECK(people_row(sweep, row).cells[1] == "2.93 KiB");
  CHECK(people_row(sweep, row).cells[3] == "+72 B");
  // Reserved against live bytes would be no comparison.
  row.predicted->reserved_peak_bytes.reset();
  CHECK(people_row(sweep, row).cells[3] == "0 B");
}

TEST_CASE("overhead is a difference of two measured or two predicted times", "[reports][table]") {
  Sweep sweep = sample_sweep();
  // 127.5 ms less 102 ms; for the row that was only predicted 145 ms less 100 ms.
  CHECK(people_row(sweep, sweep.rows[2]).cells[6] == "+25.5 ms");
  CHECK(people_row(sweep, sweep.rows[3]).cells[6] == "~+45.0 ms");
  sweep.rows[0].measured.reset();
  CHECK(people_row(sweep, sweep.rows[2]).cells[6] == "~+25.0 ms");
  sweep.rows[2].predicted->step_seconds = 0.0985;
  CHECK(people_row(sweep, sweep.rows[2]).cells[6] == "~-1.50 ms");
  sweep.rows[0].status = Status::out_of_memory;
  CHECK(people_row(sweep, sweep.rows[2]).cells[6] == "-");
}

TEST_CASE("a mark is explained where it appears and nowhere else", "[reports][table]") {
  const std::string all = written("table", sample_sweep());
  CHECK_THAT(all, Contains("\n* your configuration\n") && Contains("\n~ predicted"));
  Sweep sweep = sample_sweep();
  sweep.rows.resize(1);
  sweep.recommended = {};
  const std::string measured = written("table", sweep);
  CHECK_THAT(measured, !Contains("your configuration") && !Contains("~"));
  // Times of a sweep that has none are neither measured nor predicted.
  CHECK_THAT(written("table", test::sample_sweep_without_times()), !Contains("~"));
}

TEST_CASE("the legend says which bytes the peaks are", "[reports][table]") {
  Sweep sweep = sample_sweep();
  sweep.budget_bytes.reset();
  CHECK(closing_lines(sweep)[0] == "peaks: live bytes, static memory included");
  sweep.rows[0].measured->figures.reserved_peak_bytes = 1;
  CHECK_THAT(closing_lines(sweep)[0], Contains("the allocator reserved"));
  sweep.limit = PeakLimit::live;
  CHECK_THAT(closing_lines(sweep)[0], Contains("live bytes"));
  sweep.limit = PeakLimit::allocated;
  CHECK_THAT(closing_lines(sweep)[0], Contains("live bytes"));
  sweep.rows[0].measured->figures.allocated_peak_bytes = 1;
  CHECK_THAT(closing_lines(sweep)[0], Contains("handed out"));
}

TEST_CASE("a long reason is cut in the table and whole among the notes", "[reports][table]") {
  Sweep sweep;
  std::string reason = std::string(60, 'a') + ", ";
  for (int i = 0; i < 60; ++i) reason += "\xc3\xa4";
  sweep.rows = {test::sample_refusal(Status::invalid, "short"),
                test::sample_refusal(Status::invalid, reason)};
  CHECK(people_row(sweep, sweep.rows[0]).status == "invalid: short");
  CHECK(people_row(sweep, sweep.rows[1]).status == "invalid: " + std::string(60, 'a') + "...");
  CHECK(closing_lines(sweep) ==
        std::vector<std::string>{"peaks: live bytes, static memory included",
                                 "note: " + reason + " [none]"});
}

TEST_CASE("a note that many rows share is told once", "[reports][table]") {
  Sweep sweep;
  for (std::int32_t k = 1; k <= 5; ++k) {
    sweep.rows.push_back(test::sample_row(k, {}));
    sweep.rows.back().notes = {"shared"};
  }
  CHECK(closing_lines(sweep).back() == "note: shared [1; 2; 3; and 2 more]");
}

TEST_CASE("text from a file can neither break a line nor drive the terminal", "[reports]") {
  Sweep sweep = sample_sweep();
  sweep.rows[5].notes = {"one\ntwo\x1b[31m\ttail"};
  sweep.notes = {"three\r\nfour"};
  for (const char* format : {"table", "markdown"}) {
    const std::string text = written(format, sweep);
    CHECK(lines_of(text).size() == lines_of(written(format, sample_sweep())).size());
    CHECK(text.find_first_of("\x1b\r\t") == std::string::npos);
  }
}

TEST_CASE("every row of the Markdown table has every column", "[reports][markdown]") {
  const std::vector<std::string> lines = lines_of(written("markdown", sample_sweep()));
  const std::size_t rows = 2 + sample_sweep().rows.size();
  for (std::size_t l = 0; l < rows; ++l) {
    std::size_t bars = 0;
    for (std::size_t c = 0; c < lines[l].size(); ++c) {
      bars += lines[l][c] == '|' && (c == 0 || lines[l][c - 1] != '\\') ? 1 : 0;
    }
    CHECK(bars == titled_columns().size() + 1);
  }
  Sweep sweep = sample_sweep();
  sweep.rows[5].notes = {"a | b"};
  CHECK_THAT(written("markdown", sweep), Contains("| failed: a \\| b |"));
}

TEST_CASE("CSV keeps every digit and every letter", "[reports][csv]") {
  const auto records = parse_csv(written("csv", sample_sweep()));
  REQUIRE(records.size() == 7);
  for (const auto& record : records) CHECK(record.size() == records[0].size());
  CHECK(csv_cell(records, 0, "setting.number_checkpoints").empty());
  CHECK(csv_cell(records, 2, "setting.number_checkpoints") == "4");
  CHECK(csv_cell(records, 2, "setting.segments") == "blocks.0 blocks.1; blocks.2");
  CHECK(csv_cell(records, 2, "predicted.live_peak_bytes") == "402653184");
  CHECK(csv_cell(records, 2, "measured.live_peak_bytes") == "402653696");
  CHECK(csv_cell(records, 2, "predicted.peak_breakdown.recomputed_segment") == "134217728");
  CHECK(csv_cell(records, 2, "measured.peak_breakdown.workspace") == "512");
  CHECK(csv_cell(records, 2, "predicted.reserved_peak_bytes").empty());
  CHECK(csv_cell(records, 2, "measured.step_seconds") == "0.1275");
  CHECK(csv_cell(records, 3, "predicted.pinned_reserved_bytes") == "134217728");
  CHECK(csv_cell(records, 3, "measured.step_seconds").empty());
  CHECK(csv_cell(records, 2, "yours") == "true");
  CHECK(csv_cell(records, 4, "status") == "invalid");
  CHECK(csv_cell(records, 4, "fits").empty());
  CHECK(csv_cell(records, 3, "notes") ==
        "batch norm's statistics are written twice, as the framework does; a note with a | pipe, a "
        "\"quote\" and a\nline break");

  Sweep sweep = sample_sweep();
  sweep.rows[0].predicted->step_seconds = 0.1 + 0.2;
  CHECK(std::stod(csv_cell(parse_csv(written("csv", sweep)), 0, "predicted.step_seconds")) ==
        0.1 + 0.2);
}

// The names of a row's fields, each with those that it lies in: "setting.method".
void collect_fields(const nlohmann::json& json, const std::string& name,
                    std::set<std::string>& fields) {
  if (!json.is_object()) fields.insert(name);
  if (!json.is_object()) return;
  for (const auto& [key, value] : json.items()) {
    collect_fields(value, name.empty() ? key : name + "." + key, fields);
  }
}

TEST_CASE("the columns of CSV are the fields of a row of sweep.json", "[reports][csv]") {
  Sweep sweep = sample_sweep();
  sweep.rows = {sweep.rows[2]};
  // A term of zero bytes is left out of the file, but never out of a CSV.
  sweep.rows[0].predicted->peak_breakdown.fill(1);
  sweep.rows[0].measured->figures.peak_breakdown.fill(1);
  sweep.recommended = {};
  std::set<std::string> fields;
  collect_fields(nlohmann::json::parse(format_sweep(sweep))["rows"][0], "", fields);
  const std::vector<std::string> header = parse_csv(written("csv", sweep))[0];
  CHECK(std::set<std::string>(header.begin(), header.end()) == fields);
  CHECK(header.size() == fields.size());
}

TEST_CASE("every sweep that can be read can be reported", "[reports][mutation]") {
  const std::string text = format_sweep(sample_sweep());
  int reported = 0;
  for (std::uint32_t n = 0; n < 1500; ++n) {
    CAPTURE(n);
    Sweep sweep;
    try {
      sweep = parse_sweep("s.json", test::structurally_damaged(text, n));
    } catch (const InputError&) {
      continue;
    }
    for (const char* format : {"table", "csv", "markdown", "json", "html"}) {
      CHECK_FALSE(written(format, sweep).empty());
    }
    ++reported;
  }
  CHECK(reported > 100);
}

TEST_CASE("a width counts what a terminal shows, not bytes", "[reports]") {
  CHECK(display_width("") == 0);
  CHECK(display_width("abc") == 3);
  CHECK(display_width("\xc3\xa4") == 1);                  // a with two dots, one character
  CHECK(display_width("a\xcc\x88") == 1);                 // a and combining dots
  CHECK(display_width("\xe5\xb1\xa4") == 2);              // a Chinese character
  CHECK(display_width("\xf0\x9f\x8c\x8a") == 2);          // a picture of a wave
  CHECK(display_width("\xe2\x80\x93") == 1);              // a dash
  CHECK(display_width(std::string("\xe5\xb1", 2)) == 1);  // half a character
}

}  // namespace
}  // namespace tidemark
