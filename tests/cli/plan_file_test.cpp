// plan.json where a sweep's folder may stand: export and compare.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "block_chain.hpp"
#include "run_command.hpp"
#include "temporary_folder.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::Outcome;
using test::run;
using test::TemporaryFolder;

// Plans of six blocks, whose operators have calls.
class PlannedChain {
 public:
  PlannedChain() {
    StepTrace trace = BlockChain(6).trace();
    for (Op& op : trace.ops) op.call = Call{};
    write_step_trace(trace, folder_ / "step.json.gz");
  }

  std::string plan(const std::string& planner, Bytes budget, const std::string& name) {
    const Outcome outcome =
        run({"plan", folder_ / "step.json.gz", "--budget", std::to_string(budget), "--planner",
             planner, "-o", folder_ / name});
    INFO(outcome.err);
    REQUIRE(outcome.code == ExitCode::done);
    return folder_ / name;
  }

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

Outcome exported(const std::string& plan, const char* target, const Arguments& more = {}) {
  Arguments arguments{"export", plan, "--to", target};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

TEST_CASE("a plan of whole blocks is written in a framework's syntax", "[cli][plan_file]") {
  PlannedChain chain;
  // Six single blocks need 574 bytes: static 70, loss 4, x0 to x5 240, and 40, 100 and 100 at the
  // last block's down_backward, and 20 for what follows.
  const std::string plan = chain.plan("every-n-blocks", 560, "plan.json");
  const PlanFile file = read_plan(plan);
  REQUIRE(file.modules.is_exact);
  REQUIRE(file.modules.row);
  CHECK(file.modules.rows[*file.modules.row].predicted == file.predicted);
  const Outcome hf = exported(plan, "hf");
  INFO(hf.err);
  CHECK(nlohmann::json::parse(hf.out)["gradient_checkpointing_kwargs"]["use_reentrant"] == false);
  CHECK_THAT(exported(plan, "accelerate").out,
             Catch::Contains("fsdp_transformer_layer_cls_to_wrap: Block\n"));
  CHECK_THAT(exported(plan, "torch").out, Catch::Contains("NO_REENTRANT"));
  // Reentrant frameworks are pointed at the twin.
  const Outcome refused = exported(plan, "megatron-lm");
  CHECK(refused.code == ExitCode::wrong_usage);
  REQUIRE_THAT(refused.err, Catch::Contains("the nearest that it can is --row "));
  const std::string row = refused.err.substr(refused.err.find("--row ") + 6, 1);
  CHECK_THAT(exported(plan, "megatron-lm", {"--row", row}).out,
             Catch::Contains("--recompute-method uniform"));
  CHECK(exported(plan, "hf", {"--row", "99"}).code == ExitCode::wrong_usage);
}

TEST_CASE("a plan of single operators is written as selective checkpoints", "[cli][plan_file]") {
  PlannedChain chain;
  const std::string plan = chain.plan("tide", 600, "plan.json");
  const PlanFile file = read_plan(plan);
  REQUIRE(file.modules.selective);
  CHECK(file.modules.selective->predicted.live_peak_bytes <= 600);
  const Outcome torch = exported(plan, "torch");
  CHECK_THAT(torch.out, Catch::Contains("create_selective_checkpoint_contexts") &&
                            Catch::Contains("\"blocks.5\",\n") && Catch::Contains("\"up\": [0],"));
  const Outcome refused = exported(plan, "torchtitan");
  CHECK(refused.code == ExitCode::wrong_usage);
  CHECK(refused.out.empty());
  CHECK_THAT(refused.err, Catch::Contains("keeps no single operator's result; the nearest that it "
                                          "can is --row "));
}

TEST_CASE("a plan that no framework can be told is refused with the nearest", "[cli][plan_file]") {
  PlannedChain chain;
  const std::string plan = chain.plan("tide", 500, "plan.json");
  PlanFile file = read_plan(plan);
  file.modules.row.reset();
  file.modules.selective.reset();
  write_file(plan, format_plan(file));
  const Outcome refused = exported(plan, "torch");
  CHECK(refused.code == ExitCode::wrong_usage);
  CHECK_THAT(refused.err, Catch::Contains("stays within the plan's budget; the nearest is --row "));
  file.modules = {};
  write_file(plan, format_plan(file));
  CHECK_THAT(exported(plan, "torch").err, Catch::Contains("no blocks that are modules"));
}

TEST_CASE("two plans are compared by what they need and by their modules", "[cli][plan_file]") {
  PlannedChain chain;
  const std::string a = chain.plan("tide", 600, "a.json");
  const std::string b = chain.plan("tide", 560, "b.json");
  CHECK(run({"compare", a, a}).code == ExitCode::done);
  CHECK_THAT(run({"compare", a, a}).out, Catch::Contains("none differs"));
  const Outcome different = run({"compare", a, b, "--json"});
  CHECK(different.code == ExitCode::differs);
  const auto rows = nlohmann::json::parse(different.out)["rows"];
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["setting"] == "plan");
  CHECK(rows[0]["changes"][0] == "budget: 600 B (live), then 560 B (live)");
  CHECK(rows[1]["setting"] == "plan by modules");
  CHECK_THAT(run({"compare", a, chain.path("step.json.gz")}).err,
             Catch::Contains("name two sweeps or two plans"));
}

}  // namespace
}  // namespace tidemark
