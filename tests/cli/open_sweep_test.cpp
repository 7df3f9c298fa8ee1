#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "block_chain.hpp"
#include "command.hpp"
#include "fake_device.hpp"
#include "sweep_run.hpp"
#include "temporary_folder.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/export.hpp"
#include "tidemark/io.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;
using test::BlockChain;
using test::TemporaryFolder;

// A sweep in folder/sweep, with everything that `sweep -o` leaves there.
Sweep kept_sweep(const TemporaryFolder& folder, const StepTrace& trace) {
  SweepRequest request{.trace = trace,
                       .runs = find_blocks(trace),
                       .settings = {},
                       .yours = {},
                       .lists_every_invalid = false,
                       .build = {},
                       .execute = {},
                       .budget_bytes = {},
                       .limit = PeakLimit::automatic,
                       .provenance = {},
                       .notes = {},
                       .folder = folder / "sweep",
                       .resumes = false};
  request.settings = expand(SweepAxes{}, request.runs);
  test::FakeExecution execution(trace, {});
  const std::atomic<bool> interrupted{false};
  const Sweep sweep = run_sweep(
      request, &execution, [](const SweepProgress&) {}, interrupted);
  write_step_trace(trace, folder / "sweep/step.json.gz");
  return sweep;
}

TEST_CASE("every row of a folder has its own schedule and timelines", "[open_sweep]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  const Sweep sweep = kept_sweep(folder, chain.trace());
  const auto source = open_sweep(folder / "sweep");
  CHECK(source->sweep() == sweep);
  CHECK(kept_trace(*source) == chain.trace());
  CHECK(chosen_row(*source) == sweep.recommended.written->row);
  CHECK(source->config() == nullptr);
  for (std::size_t row = 0; row < sweep.rows.size(); ++row) {
    CAPTURE(row);
    REQUIRE(source->detail(row) != nullptr);
    CHECK(source->detail(row)->row.setting == sweep.rows[row].setting);
    if (sweep.rows[row].status == Status::invalid) {
      CHECK_THROWS_WITH(kept_detail(*source, row), Contains("row " + std::to_string(row)));
      continue;
    }
    const Prediction again = simulate(chain.trace(), kept_detail(*source, row).schedule);
    CHECK(again.figures == sweep.rows[row].predicted);
    CHECK(again.timeline == kept_detail(*source, row).measured);
  }
}

TEST_CASE("a row and a configuration can be named", "[open_sweep]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  const Sweep sweep = kept_sweep(folder, chain.trace());
  write_file(folder / "mine.json", "{\"activation_checkpointing\": {\"profile\": true}}");
  const auto source =
      open_sweep(folder / "sweep/sweep.json", {.row = 3, .config = folder / "mine.json"});
  CHECK(chosen_row(*source) == 3);
  REQUIRE(source->config() != nullptr);
  CHECK(source->config()->activation_checkpointing.profile);
  CHECK_THROWS_AS(open_sweep(folder / "sweep", {.row = sweep.rows.size(), .config = {}}),
                  UsageError);
  CHECK_THROWS_AS(
      open_sweep(folder / "sweep", {.row = {}, .config = folder / "none.json"})->config(),
      InputError);
}

TEST_CASE("what was not kept, or belongs to another sweep, is said", "[open_sweep]") {
  const BlockChain chain(4);
  const BlockChain other(3);
  const TemporaryFolder folder;
  (void)kept_sweep(folder, chain.trace());
  namespace fs = std::filesystem;
  write_step_trace(other.trace(), folder / "sweep/step.json.gz");
  fs::rename(folder / "sweep/rows/1.json.gz", folder / "sweep/rows/0.json.gz");
  const auto mixed = open_sweep(folder / "sweep");
  CHECK_THROWS_WITH(mixed->trace(), Contains("another step"));
  CHECK_THROWS_WITH(mixed->detail(0), Contains("another row"));
  fs::remove(folder / "sweep/step.json.gz");
  fs::remove_all(folder / "sweep/rows");
  const auto bare = open_sweep(folder / "sweep");
  CHECK_THROWS_WITH(kept_trace(*bare), Contains("folder"));
  CHECK_THROWS_WITH(kept_detail(*bare, 2), Contains("row 2") && Contains("folder"));
}

struct Output {
  ExitCode code = ExitCode::done;
  std::string out;
  std::string err;
};

Output run_line(const Arguments& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  const ExitCode code = run_command_line(arguments, {out, err});
  return {code, out.str(), err.str()};
}

TEST_CASE("every format writes a folder's sweep", "[report]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  (void)kept_sweep(folder, chain.trace());
  for (const Exporter* exporter : exporters()) {
    CAPTURE(exporter->name());
    const std::string file = folder / std::string(exporter->name());
    const Output written = run_line({"report", folder / "sweep", "--format",
                                     std::string(exporter->name()), "--row", "3", "-o", file});
    CHECK(written.code == ExitCode::done);
    CHECK(written.err.empty());
    CHECK_FALSE(read_file(file).empty());
  }
  CHECK(run_line({"report", folder / "sweep", "--row", "999"}).code == ExitCode::wrong_usage);
}

TEST_CASE("explain tells people and programs the same", "[explain]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  const Sweep sweep = kept_sweep(folder, chain.trace());
  const Output text = run_line({"explain", folder / "sweep", "--row", "0"});
  CHECK(text.code == ExitCode::done);
  CHECK_THAT(text.out, Contains("row 0: none") && Contains("predicted peak 754 B") &&
                           Contains("lowers the peak:") && Contains("  checkpointing: "));
  const Output data = run_line({"explain", folder / "sweep", "--row", "0", "--json"});
  const auto json = nlohmann::json::parse(data.out);
  CHECK(json["live_peak_bytes"] == 754);
  CHECK(json["parts"].size() > 2);
  CHECK(json["levers"][0]["effect"] == "lowers");
  std::size_t refused = 0;
  while (sweep.rows[refused].status != Status::invalid) ++refused;
  const Output none = run_line({"explain", folder / "sweep", "--row", std::to_string(refused)});
  CHECK(none.code == ExitCode::wrong_usage);
}

TEST_CASE("compare gates on a difference beyond the tolerance", "[compare]") {
  const BlockChain chain(4);
  const TemporaryFolder folder;
  Sweep sweep = kept_sweep(folder, chain.trace());
  CHECK(run_line({"compare", folder / "sweep", folder / "sweep"}).code == ExitCode::done);
  sweep.rows[0].predicted->live_peak_bytes += 7;  // 0.93 percent
  write_file(folder / "other.json", format_sweep(sweep));
  const Output differs = run_line({"compare", folder / "sweep", folder / "other.json"});
  CHECK(differs.code == ExitCode::differs);
  CHECK_THAT(differs.out,
             Contains("none, predicted live peak") && Contains("+0.93 %") && Contains("1 differs"));
  const Output same =
      run_line({"compare", folder / "sweep", folder / "other.json", "--tolerance", "1", "--json"});
  CHECK(same.code == ExitCode::done);
  CHECK(nlohmann::json::parse(same.out)["differs"] == false);
  CHECK(run_line({"compare", folder / "sweep", folder / "sweep", "--tolerance", "-1"}).code ==
        ExitCode::wrong_usage);
}

}  // namespace
}  // namespace tidemark
