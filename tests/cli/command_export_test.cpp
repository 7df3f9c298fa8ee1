#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "block_chain.hpp"
#include "command.hpp"
#include "run_command.hpp"
#include "temporary_folder.hpp"
#include "tidemark/config.hpp"
#include "tidemark/export.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;
using test::Outcome;
using test::run;
using test::TemporaryFolder;

// Six blocks, swept with both methods and every storage of checkpoints.
class SweptChain {
 public:
  SweptChain() {
    write_step_trace(BlockChain(6).trace(), folder_ / "step.json.gz");
    write_file(folder_ / "ds_config.json", "{\n  train_batch_size: 1  // mine\n}\n");
    const Outcome outcome =
        run({"sweep", folder_ / "step.json.gz", "--method", "both", "--model-parallel-size", "2",
             "--config", folder_ / "ds_config.json", "-o", folder_ / "out"});
    REQUIRE(outcome.code == ExitCode::done);
    sweep_ = read_sweep(folder_ / "out/sweep.json");
  }

  // The row with this setting, as --row takes it.
  [[nodiscard]] std::string row(std::optional<std::int32_t> checkpoints, Method method,
                                CpuCheckpointing cpu = CpuCheckpointing::off,
                                bool partition = false, bool contiguous = false) const {
    for (std::size_t r = 0; r < sweep_.rows.size(); ++r) {
      const Setting& setting = sweep_.rows[r].setting;
      const bool is_storage = setting.cpu_checkpointing == cpu &&
                              setting.partition_activations == partition &&
                              setting.contiguous_memory_optimization == contiguous;
      if (setting.number_checkpoints == checkpoints && is_storage &&
          (setting.method == method || !checkpoints)) {
        return std::to_string(r);
      }
    }
    FAIL("the sweep has no such row");
    return "";
  }

  [[nodiscard]] Outcome written(const std::string& target, const std::string& row) const {
    return run({"export", folder_ / "out", "--to", target, "--row", row});
  }
  [[nodiscard]] std::string folder() const { return folder_ / "out"; }

 private:
  TemporaryFolder folder_;
  Sweep sweep_;
};

TEST_CASE("each target writes one block a checkpoint in its own syntax", "[cli][export]") {
  const SweptChain chain;
  const std::string reentrant = chain.row(6, Method::reentrant);
  const std::string other = chain.row(6, Method::non_reentrant);
  CHECK(chain.written("megatron-deepspeed", reentrant).out ==
        "--deepspeed-activation-checkpointing --checkpoint-activations --checkpoint-num-layers "
        "1\n");
  CHECK(chain.written("megatron-lm", reentrant).out ==
        "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1\n");
  CHECK(nlohmann::json::parse(chain.written("hf", other).out) ==
        nlohmann::json::parse(R"({"gradient_checkpointing": true,
            "gradient_checkpointing_kwargs": {"use_reentrant": false}})"));
  CHECK(nlohmann::json::parse(
            chain.written("hf", reentrant).out)["gradient_checkpointing_kwargs"]["use_reentrant"] ==
        true);
  CHECK(chain.written("torchtitan", other).out ==
        "[activation_checkpoint]\nmode = \"full\"\nearly_stop = true\n");
  CHECK_THAT(chain.written("accelerate", other).out,
             Catch::Contains("fsdp_activation_checkpointing: true\n") &&
                 Catch::Contains("fsdp_transformer_layer_cls_to_wrap: Block\n"));
  CHECK_THAT(chain.written("torch", other).out,
             Catch::Contains("\"blocks.5\",\n") && Catch::Contains("NO_REENTRANT"));
  const auto pipeline = nlohmann::json::parse(chain.written("deepspeed-pipeline", reentrant).out);
  CHECK(pipeline["pipeline"]["activation_checkpoint_interval"] == 1);
  CHECK(pipeline["tidemark_checkpointable_layers"][0] == "Block");
  const auto lightning = nlohmann::json::parse(chain.written("lightning", reentrant).out);
  CHECK(lightning["DeepSpeedStrategy"]["cpu_checkpointing"] == false);
  CHECK(lightning["tidemark_segments"].size() == 6);
}

TEST_CASE("groups of blocks are written where the target has them", "[cli][export]") {
  const SweptChain chain;
  const std::string three = chain.row(3, Method::reentrant);  // two blocks each
  CHECK_THAT(chain.written("megatron-deepspeed", three).out,
             Catch::Contains("--checkpoint-num-layers 2\n"));
  CHECK_THAT(chain.written("megatron-lm", three).out,
             Catch::Contains("--recompute-num-layers 2\n"));
  const auto pipeline = nlohmann::json::parse(chain.written("deepspeed-pipeline", three).out);
  CHECK(pipeline["pipeline"]["activation_checkpoint_interval"] == 2);
}

TEST_CASE("what a target cannot express is refused with the nearest row", "[cli][export]") {
  const SweptChain chain;
  const std::string groups = chain.row(3, Method::non_reentrant);
  const std::string single = chain.row(6, Method::non_reentrant);
  for (const char* target : {"hf", "accelerate", "torchtitan", "torch"}) {
    const Outcome outcome = chain.written(target, groups);
    INFO(target << ": " << outcome.err);
    CHECK(outcome.code == ExitCode::wrong_usage);
    CHECK(outcome.out.empty());
    CHECK_THAT(outcome.err, Catch::Contains("checkpoints single layers"));
  }
  // Six blocks, one each, need least; no other row of whole checkpoints needs no more.
  CHECK_THAT(chain.written("torchtitan", groups).err,
             Catch::Contains("the nearest that it can is --row " + single + " (6, non_reentrant"));
  CHECK(chain.written("megatron-deepspeed", single).code == ExitCode::wrong_usage);
  const std::string offloaded = chain.row(6, Method::reentrant, CpuCheckpointing::async);
  CHECK_THAT(chain.written("megatron-lm", offloaded).err, Catch::Contains("to the host"));
  CHECK_THAT(chain.written("hf", offloaded).err, Catch::Contains("on the computing stream"));
  const std::string partitioned = chain.row(6, Method::reentrant, CpuCheckpointing::off, true);
  CHECK_THAT(chain.written("hf", partitioned).err, Catch::Contains("does not partition"));
  CHECK_THAT(chain.written("lightning", partitioned).err, Catch::Contains("does not partition"));
}

TEST_CASE("a shorter last group is refused where a framework would run beyond the layers",
          "[cli][export]") {
  const TemporaryFolder folder;
  write_step_trace(BlockChain(5).trace(), folder / "step.json.gz");
  REQUIRE(run({"sweep", folder / "step.json.gz", "--number-checkpoints", "3,5",
               "--partition-activations", "off", "--cpu-checkpointing", "off",
               "--contiguous-memory-optimization", "off", "-o", folder / "out"})
              .code == ExitCode::done);
  for (const char* target : {"megatron-lm", "megatron-deepspeed"}) {
    const Outcome refused = run({"export", folder / "out", "--to", target, "--row", "0"});
    CHECK(refused.code == ExitCode::wrong_usage);
    CHECK_THAT(refused.err, Catch::Contains("that the group divides"));
    CHECK(run({"export", folder / "out", "--to", target, "--row", "1"}).code == ExitCode::done);
  }
  // DeepSpeed's pipeline shortens it.
  CHECK(run({"export", folder / "out", "--to", "deepspeed-pipeline", "--row", "0"}).code ==
        ExitCode::done);
}

TEST_CASE("storage of checkpoints is written where the target has it", "[cli][export]") {
  const SweptChain chain;
  const std::string all = chain.row(6, Method::reentrant, CpuCheckpointing::blocking, true, true);
  CHECK(chain.written("megatron-deepspeed", all).out ==
        "--deepspeed-activation-checkpointing --checkpoint-activations --checkpoint-num-layers 1 "
        "--partition-activations --checkpoint-in-cpu --contigious-checkpointing\n");
  const std::string partitioned = chain.row(6, Method::reentrant, CpuCheckpointing::off, true);
  CHECK_THAT(chain.written("megatron-lm", partitioned).out,
             Catch::Contains(" --distribute-saved-activations\n"));
  const std::string blocking = chain.row(6, Method::non_reentrant, CpuCheckpointing::blocking);
  CHECK(nlohmann::json::parse(
            chain.written("hf", blocking).out)["gradient_checkpointing_kwargs"]["offload"] == true);
  CHECK_THAT(chain.written("torch", blocking).out, Catch::Contains("offload_wrapper"));
  CHECK_THAT(chain.written("accelerate", blocking).out,
             Catch::Contains("fsdp_activation_checkpointing_offload: true"));
}

TEST_CASE("no checkpointing is written as such", "[cli][export]") {
  const SweptChain chain;
  const std::string none = chain.row({}, Method::reentrant);
  CHECK(chain.written("megatron-lm", none).out.empty());
  CHECK(chain.written("megatron-deepspeed", none).out.empty());
  CHECK(nlohmann::json::parse(chain.written("hf", none).out)["gradient_checkpointing"] == false);
  CHECK_THAT(chain.written("torchtitan", none).out, Catch::Contains("\"none\""));
  CHECK_THAT(chain.written("accelerate", none).out,
             Catch::Contains("fsdp_activation_checkpointing: false"));
}

TEST_CASE("the user's file gets the block and the groups, and keeps the rest", "[cli][export]") {
  const SweptChain chain;
  const std::string text = chain.written("deepspeed", chain.row(3, Method::reentrant)).out;
  CHECK_THAT(text, Catch::Contains("  train_batch_size: 1,  // mine\n"));
  const Config config = parse_config("out.json", text);
  CHECK(config.activation_checkpointing.number_checkpoints == 3);
  CHECK_THAT(text, Catch::Contains("tidemark_segments: "
                                   "[[\"blocks.0\",\"blocks.1\"],[\"blocks.2\",\"blocks.3\"],"
                                   "[\"blocks.4\",\"blocks.5\"]]"));
  // Written once, however often.
  const std::string again = with_segments(config, {{"blocks.0"}});
  CHECK_THAT(again, Catch::Contains("tidemark_segments: [[\"blocks.0\"]]"));
  CHECK(parse_config("out.json", again).root.members.size() == config.root.members.size());
}

TEST_CASE("every target is listed, and a wrong one refused", "[cli][export]") {
  const SweptChain chain;
  const std::string listed = run({"list", "targets"}).out;
  for (const Target* target : targets()) {
    CHECK_THAT(listed, Catch::Contains(std::string(target->name()) + "  "));
  }
  CHECK(run({"export", chain.folder(), "--to", "keras"}).code == ExitCode::wrong_usage);
  CHECK(run({"export", chain.folder()}).code == ExitCode::wrong_usage);
  CHECK(run({"export", chain.folder(), "--to", "hf", "--row", "999"}).code ==
        ExitCode::wrong_usage);
}

TEST_CASE("a plan's row is no setting to export, and plan.json stands for it", "[cli][export]") {
  const TemporaryFolder folder;
  write_step_trace(BlockChain(6).trace(), folder / "step.json.gz");
  REQUIRE(run({"sweep", folder / "step.json.gz", "--budget", "900", "-o", folder / "out"}).code ==
          ExitCode::done);
  const Sweep sweep = read_sweep(folder / "out/sweep.json");
  REQUIRE(sweep.rows.back().is_plan());
  const std::string row = std::to_string(sweep.rows.size() - 1);
  for (const Target* target : targets()) {
    const Outcome outcome =
        run({"export", folder / "out", "--to", std::string(target->name()), "--row", row});
    CAPTURE(target->name(), outcome.err);
    CHECK(outcome.code == ExitCode::wrong_usage);
    CHECK_THAT(outcome.err, Catch::Contains("plan by tide") && Catch::Contains("plan.json"));
  }
  const PlanFile plan = read_plan(folder / "out/plan.json");
  CHECK(plan.fingerprint == sweep.fingerprint);
  CHECK(plan.schedule == read_row_detail(folder / ("out/rows/" + row + ".json.gz")).schedule);
  CHECK(plan.predicted == *sweep.rows.back().predicted);
  // What the folder says without a row is a setting.
  CHECK_FALSE(sweep.rows.at(sweep.recommended.written->row).is_plan());
  CHECK(read_config(folder / "out/ds_config.json").activation_checkpointing.number_checkpoints ==
        sweep.rows.at(sweep.recommended.written->row).setting.number_checkpoints);
}

TEST_CASE("every report and explanation takes a plan's row", "[cli][report]") {
  const TemporaryFolder folder;
  write_step_trace(BlockChain(6).trace(), folder / "step.json.gz");
  const std::string out = folder / "out";
  REQUIRE(run({"sweep", folder / "step.json.gz", "--budget", "900", "-o", out}).code ==
          ExitCode::done);
  const std::string row = std::to_string(read_sweep(out + "/sweep.json").rows.size() - 1);
  const Outcome explained = run({"explain", out, "--row", row});
  CHECK(explained.code == ExitCode::done);
  CHECK_THAT(explained.out, Catch::StartsWith("row " + row + ": plan by tide"));
  CHECK_THAT(run({"explain", out}).out, Catch::Contains("decisions operator by operator: plan by"));
  for (const char* format : {"table", "csv", "markdown", "html", "perfetto", "snapshot"}) {
    const Outcome written = run({"report", out, "--format", format, "--row", row});
    CAPTURE(format, written.err);
    CHECK(written.code == ExitCode::done);
    if (std::string(format) != "snapshot") CHECK_THAT(written.out, Catch::Contains("tide"));
  }
  CHECK(run({"compare", out, out}).code == ExitCode::done);

  // Without it nothing of a plan is left, and that is a difference.
  const std::string without = folder / "without";
  REQUIRE(
      run({"sweep", folder / "step.json.gz", "--budget", "900", "--planner", "none", "-o", without})
          .code == ExitCode::done);
  CHECK_FALSE(read_sweep(without + "/sweep.json").rows.back().is_plan());
  CHECK_FALSE(read_sweep(without + "/sweep.json").recommended.plan.has_value());
  const Outcome compared = run({"compare", out, without});
  CHECK(compared.code == ExitCode::differs);
  CHECK_THAT(compared.out, Catch::Contains("plan by tide"));
  CHECK(run({"sweep", folder / "step.json.gz", "--planner", "tide"}).code == ExitCode::wrong_usage);
}

}  // namespace
}  // namespace tidemark
