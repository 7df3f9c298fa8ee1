#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "block_chain.hpp"
#include "command.hpp"
#include "run_command.hpp"
#include "temporary_folder.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::Outcome;
using test::run;
using test::TemporaryFolder;

TEST_CASE("help and version print on standard output", "[cli]") {
  CHECK(run({"--help"}).code == ExitCode::done);
  CHECK_THAT(run({"--version"}).out, Catch::StartsWith("tidemark "));
  for (const Command& command : commands()) {
    const Outcome outcome = run({std::string(command.name), "--help"});
    CHECK(outcome.code == ExitCode::done);
    CHECK_THAT(outcome.out, Catch::Contains("usage: tidemark " + std::string(command.name)));
    CHECK_THAT(outcome.out, !Catch::Contains(" arg"));
    std::istringstream lines(outcome.out);
    for (std::string line; std::getline(lines, line);) {
      CAPTURE(command.name, line);
      CHECK(line.size() <= 100);
    }
  }
  const std::string help = run({"sweep", "--help"}).out;
  CHECK_THAT(help, Catch::Contains("      --method METHOD ") && Catch::Contains("[reentrant]"));
  CHECK_THAT(help, Catch::Contains("  -o, --output OUTPUT "));
  CHECK_THAT(help, Catch::Contains("      --resume  ") && Catch::Contains("  -h, --help  "));
}

TEST_CASE("wrong usage is one sentence and exit code 2", "[cli]") {
  for (const Arguments& arguments :
       {Arguments{"swep"},
        Arguments{"sweep"},
        Arguments{"sweep", "a", "b"},
        Arguments{"sweep", "a", "--no-such-option"},
        Arguments{"sweep", "a", "--budget", "6G"},
        Arguments{"sweep", "a", "--method", "both_of_them"},
        Arguments{"sweep", "a", "--number-checkpoints", "0"},
        Arguments{"sweep", "a", "--number-checkpoints", "1,,2"},
        Arguments{"sweep", "a", "--deepspeed-version", "new"},
        Arguments{"sweep", "a", "--fix", "profile"},
        Arguments{"sweep", "a", "--resume"},
        Arguments{"sweep", "a", "--model-parallel-size", "0"},
        Arguments{"sweep", "a", "--alloc-conf", "expandable_segments:yes"},
        Arguments{"sweep", "a", "--host-budget", "1GiB"},
        Arguments{"plan", "a", "--budget", "1GiB", "--alloc-conf", "expandable_segments:yes"},
        Arguments{"sweep", "a", "--alloc-conf", "default", "--alloc-conf", "max_split_size_mb:1"},
        Arguments{"sweep", "a", "--machine", "h200"},
        Arguments{"sweep", "a", "--repeat", "0"},
        Arguments{"record", "a", "--optimizer", "adam"},
        Arguments{"report", "a", "--format", "pdf"},
        Arguments{"list", "everything"},
        Arguments{"phantom", "--gpu", "h300", "--", "true"},
        Arguments{"phantom", "--gpu", "h200"},
        Arguments{"phantom", "--gpus", "17", "--", "true"}}) {
    const Outcome outcome = run(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == ExitCode::wrong_usage);
    CHECK_THAT(outcome.err, Catch::StartsWith("tidemark: "));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    CHECK(outcome.out.empty());
  }
}

TEST_CASE("a missing or foreign file is one sentence and exit code 1", "[cli]") {
  const TemporaryFolder folder;
  write_file(folder / "text", "hello");
  write_file(folder / "empty", "");
  for (const std::string& path :
       {folder / "missing", folder / "text", folder / "empty", folder / ""}) {
    for (const char* command : {"inspect", "sweep", "record"}) {
      const Outcome outcome = run({command, path});
      INFO(outcome.err);
      CHECK(outcome.code == ExitCode::failed);
      CHECK_THAT(outcome.err, Catch::StartsWith("tidemark: " + path));
    }
  }
}

std::string saved_chain(const TemporaryFolder& folder) {
  const std::string path = folder / "step.json.gz";
  write_step_trace(BlockChain(4).trace(), path);
  return path;
}

TEST_CASE("a saved trace is inspected and swept without a device", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = saved_chain(folder);
  const auto inspected = nlohmann::json::parse(run({"inspect", trace, "--json"}).out);
  CHECK(inspected["ops"]["forward"] == 10);
  CHECK(inspected["runs"][0].size() == 4);
  CHECK(inspected["peak"]["live_peak_bytes"] == 754);  // worked out in build_schedule_test.cpp
  const Outcome swept = run({"sweep", trace, "-o", folder / "out"});
  CHECK(swept.code == ExitCode::done);
  CHECK_THAT(swept.out, Catch::Contains("recommended"));
  CHECK(read_sweep(folder / "out/sweep.json").rows.size() == 23);
  CHECK(read_step_trace(folder / "out/step.json.gz") == BlockChain(4).trace());
  for (const char* format : {"table", "csv", "markdown", "json"}) {
    CHECK(run({"report", folder / "out", "--format", format}).code == ExitCode::done);
  }
}

TEST_CASE("a saved step is not taken for another device's", "[cli]") {
  const TemporaryFolder folder;
  StepTrace step = BlockChain(4).trace();
  step.device.kind = DeviceKind::cpu;
  write_step_trace(step, folder / "cpu.json.gz");
  step.device.kind = DeviceKind::phantom;
  step.device.name = "h200";
  write_step_trace(step, folder / "h200.json.gz");
  const auto sweep_on = [&](const std::string& trace, const std::string& device) {
    return run({"sweep", folder / trace, "--no-execute", "--device", device});
  };
  CHECK(sweep_on("cpu.json.gz", "cpu").code == ExitCode::done);
  CHECK(sweep_on("h200.json.gz", "phantom:h200").code == ExitCode::done);
  for (const Outcome& outcome :
       {sweep_on("cpu.json.gz", "phantom:h200"), sweep_on("h200.json.gz", "phantom:l4"),
        sweep_on("h200.json.gz", "cuda:0"), sweep_on("h200.json.gz", "cpu")}) {
    INFO(outcome.err);
    CHECK(outcome.code == ExitCode::failed);
    CHECK_THAT(outcome.err, Catch::Contains("was recorded on") && Catch::Contains("record the"));
  }
}

TEST_CASE("a budget that nothing fits gives exit code 3 and leaves the configuration", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = saved_chain(folder);
  const std::string config = "{ \"train_batch_size\": 1 /* mine */ }\n";
  write_file(folder / "ds_config.json", config);
  const Outcome outcome = run({"sweep", trace, "--budget", "100", "--config",
                               folder / "ds_config.json", "-o", folder / "out"});
  CHECK(outcome.code == ExitCode::nothing_fits);
  CHECK(read_file(folder / "out/ds_config.json") == config);
  CHECK_THAT(outcome.out, Catch::Contains("No setting fits"));
}

TEST_CASE("the recommended configuration is the user's file but for the keys", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = saved_chain(folder);
  write_file(
      folder / "ds_config.json",
      "{ train_batch_size: 1, // mine\n  activation_checkpointing: { number_checkpoints: 1 } }\n");
  // Only four checkpoints without offload stay below 500 bytes among these.
  const Outcome outcome =
      run({"sweep", trace, "--budget", "500", "--config", folder / "ds_config.json", "-o",
           folder / "out", "--partition-activations", "off", "--cpu-checkpointing", "off",
           "--contiguous-memory-optimization", "off"});
  CHECK(outcome.code == ExitCode::done);
  CHECK(
      read_file(folder / "out/ds_config.json") ==
      "{ train_batch_size: 1, // mine\n  activation_checkpointing: { number_checkpoints: 4 } }\n");
  const Sweep sweep = read_sweep(folder / "out/sweep.json");
  const auto yours = std::find_if(sweep.rows.begin(), sweep.rows.end(),
                                  [](const SweepRow& row) { return row.yours; });
  REQUIRE(yours != sweep.rows.end());
  CHECK(yours->setting.number_checkpoints == 1);
  CHECK(yours->fits == false);
}

TEST_CASE("lint prints the six keys and fails on errors", "[cli]") {
  const TemporaryFolder folder;
  write_file(folder / "good.json",
             "{\"train_batch_size\": 1, \"activation_checkpointing\": {\"profile\": true}}");
  const Outcome good = run({"lint", folder / "good.json", "--json"});
  CHECK(good.code == ExitCode::done);
  const auto printed = nlohmann::json::parse(good.out);
  CHECK(printed["config"].size() == 6);
  CHECK(printed["config"]["profile"] == true);
  CHECK(printed["config"]["number_checkpoints"].is_null());
  write_file(folder / "bad.json",
             "{\"train_batch_size\": 1, \"activation_checkpointing\": "
             "{\"contiguous_memory_optimization\": true}}");
  CHECK(run({"lint", folder / "bad.json"}).code == ExitCode::failed);
}

TEST_CASE("lint prints SARIF that points at the key", "[cli]") {
  const TemporaryFolder folder;
  write_file(folder / "c.json",
             "{\n  \"train_batch_size\": 1,\n  \"activation_checkpointing\": {\n    "
             "\"profile\": true\n  }\n}\n");
  const auto sarif = nlohmann::json::parse(run({"lint", folder / "c.json", "--sarif"}).out);
  CHECK(sarif["version"] == "2.1.0");
  const auto& rules = sarif["runs"][0]["tool"]["driver"]["rules"];
  CHECK(rules[0]["id"] == "inert");
  CHECK(rules[0]["helpUri"] == "https://github.com/deepspeedai/DeepSpeed/issues/5704");
  bool is_found = false;
  for (const auto& result : sarif["runs"][0]["results"]) {
    CHECK(rules[result["ruleIndex"].get<std::size_t>()]["id"] == result["ruleId"]);
    if (result["ruleId"] != "costs-time") continue;
    is_found = true;
    CHECK(result["level"] == "warning");
    const auto& region = result["locations"][0]["physicalLocation"]["region"];
    CHECK(region["startLine"] == 4);
    CHECK(region["startColumn"] == 5);
    CHECK(region["endColumn"] == 14);  // behind "profile" and its quotes
  }
  CHECK(is_found);
}

TEST_CASE("lint takes numbers from a recorded step or a sweep's folder", "[cli]") {
  const TemporaryFolder folder;
  const std::string trace = saved_chain(folder);
  write_file(
      folder / "c.json",
      "{\"train_batch_size\": 1, \"activation_checkpointing\": {\"number_checkpoints\": 1}}");
  const Outcome from_trace = run({"lint", folder / "c.json", "--trace", trace});
  CHECK_THAT(from_trace.out, Catch::Contains("larger-segments-raise-peak"));
  REQUIRE(run({"sweep", trace, "-o", folder / "out"}).code == ExitCode::done);
  CHECK(run({"lint", folder / "c.json", "--trace", folder / "out"}).out == from_trace.out);
  CHECK(run({"lint", folder / "c.json", "--target", "jax"}).code == ExitCode::wrong_usage);
  CHECK(run({"lint", folder / "c.json", "--json", "--sarif"}).code == ExitCode::wrong_usage);
}

TEST_CASE("list names every planner, format and rule", "[cli]") {
  CHECK_THAT(run({"list", "rules"}).out, Catch::Contains("contiguous-overflow  error: "));
  CHECK_THAT(run({"list", "planners"}).out, Catch::Contains("keep-all"));
  CHECK_THAT(run({"list", "formats"}).out, Catch::Contains("markdown"));
}

}  // namespace
}  // namespace tidemark
