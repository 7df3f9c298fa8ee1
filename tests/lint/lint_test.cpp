#include "tidemark/lint.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "block_chain.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

std::string file_with(const std::string& block, const std::string& others = "") {
  return "{\"train_batch_size\": 1," + others + " \"activation_checkpointing\": {" + block + "}}";
}

std::vector<LintFinding> findings_of(const std::string& text, const LintSubject& known) {
  const Config config = parse_config("c.json", text);
  return lint({.config = config,
               .target = known.target,
               .deepspeed_version = known.deepspeed_version,
               .model_parallel_size = known.model_parallel_size,
               .checkpoints = known.checkpoints,
               .sequence_parallel = known.sequence_parallel,
               .step = known.step});
}

// One rule: a file on which it speaks and its nearest neighbour on which it is silent.
struct RuleCase {
  std::string id;
  std::string speaks;
  std::string silent;
  LintSubject known;         // for the file that speaks
  LintSubject known_silent;  // for the other
};

// Stands for a config where only what is known besides the file matters.
const Config no_config{};

LintSubject plain() { return {.config = no_config}; }
LintSubject target(LintTarget value) { return {.config = no_config, .target = value}; }
LintSubject ranks(std::int32_t value) {
  return {.config = no_config, .model_parallel_size = value};
}
LintSubject calls(std::int32_t value) { return {.config = no_config, .checkpoints = value}; }
LintSubject version(const std::string& text) {
  return {.config = no_config, .deepspeed_version = *deepspeed_version_from_text(text)};
}
LintSubject sequence_parallel() { return {.config = no_config, .sequence_parallel = true}; }

const std::string off = "\"partition_activations\": false";
const std::string partition = "\"partition_activations\": true";
const std::string contiguous = partition + ", \"contiguous_memory_optimization\": true";
const std::string four_buffers = contiguous + ", \"number_checkpoints\": 4";
const std::string cpu = "\"cpu_checkpointing\": true";

std::vector<RuleCase> cases_without_step() {
  using enum LintTarget;
  const auto wrapped = [](const std::string& key) {
    return "{\"train_batch_size\": 1, \"" + key + "\": {\"profile\": true}}";
  };
  const std::string pipeline = "\"pipeline\": {\"use_reentrant\": false},";
  return {
      {"inert", file_with(off), "{\"train_batch_size\": 1}", plain(), plain()},
      {"inert-in-framework", file_with(off), file_with(off), target(hf), plain()},
      {"inert-in-framework", file_with(off), file_with(off), target(accelerate), target(lightning)},
      {"inert-in-lightning", file_with(off), file_with(off), target(lightning), target(hf)},
      {"lightning-drops-number", file_with(four_buffers), file_with(partition), target(lightning),
       target(lightning)},
      {"lightning-has-no-mpu", file_with(partition), file_with(off), target(lightning),
       target(lightning)},
      {"megatron-flags-win", file_with(cpu), file_with(cpu), target(megatron_deepspeed), plain()},
      {"misplaced-block", wrapped("activation_checkpoint"), wrapped("activation_checkpointing"),
       plain(), plain()},
      {"misplaced-block", wrapped("session_params"), wrapped("zero_optimization"), plain(),
       plain()},
      {"block-type", "{\"activation_checkpointing\": null}", "{\"activation_checkpointing\": {}}",
       plain(), plain()},
      {"unknown-key", file_with("\"partitioned_activations\": true"), file_with(partition), plain(),
       plain()},
      {"flag-type", file_with("\"profile\": \"false\""), file_with("\"profile\": false"), plain(),
       plain()},
      {"number-type", file_with("\"number_checkpoints\": 2.5"),
       file_with("\"number_checkpoints\": null"), plain(), plain()},
      {"number-not-positive", file_with("\"number_checkpoints\": 0"),
       file_with("\"number_checkpoints\": 1"), plain(), plain()},
      {"batch-size-text", "{\"train_batch_size\": \"auto\"}", "{\"train_batch_size\": 2}", plain(),
       plain()},
      {"batch-size-text", "{\"train_batch_size\": \"auto\"}", "{\"train_batch_size\": \"auto\"}",
       plain(), target(hf)},
      {"batch-size-missing", "{}", "{\"train_micro_batch_size_per_gpu\": 1}", plain(), plain()},
      {"contiguous-without-partition", file_with("\"contiguous_memory_optimization\": true"),
       file_with(four_buffers), plain(), plain()},
      {"contiguous-without-number", file_with(contiguous), file_with(four_buffers), plain(),
       plain()},
      {"contiguous-overflow", file_with(four_buffers), file_with(four_buffers), calls(5), calls(4)},
      {"contiguous-spare", file_with(four_buffers), file_with(four_buffers), calls(3), calls(4)},
      {"contiguous-needs-reset", file_with(four_buffers), file_with(partition), plain(), plain()},
      {"number-without-contiguous", file_with("\"number_checkpoints\": 4"), file_with(four_buffers),
       plain(), plain()},
      {"partition-needs-model-parallelism", file_with(partition), file_with(partition), plain(),
       ranks(2)},
      {"partition-saves-nothing", file_with(partition), file_with(partition), ranks(1), ranks(2)},
      {"partition-other-arguments", file_with(partition), file_with(cpu), plain(), plain()},
      {"partition-with-sequence-parallel", file_with(partition), file_with(partition),
       sequence_parallel(), ranks(2)},
      {"cpu-needs-partition", file_with(cpu), file_with(cpu), version("0.5.1"), version("0.5.2")},
      {"cpu-blocking", file_with(cpu), file_with(cpu), version("0.19.5"), version("0.19.6")},
      {"cpu-blocking", file_with(cpu + ", " + partition), file_with(cpu), plain(), plain()},
      {"cpu-non-reentrant", file_with(cpu, pipeline), file_with(cpu, pipeline), version("0.19.5"),
       version("0.19.6")},
      {"async-needs-backward", file_with(cpu), file_with(cpu + ", " + partition), plain(), plain()},
      {"costs-time", file_with("\"synchronize_checkpoint_boundary\": true"), file_with(cpu),
       plain(), plain()},
      {"profile-nested", file_with("\"profile\": true"), file_with("\"profile\": false"), plain(),
       plain()},
      {"grad-is-refused", file_with(cpu), file_with(off), plain(), plain()},
      {"pipeline-interval", "{\"pipeline\": {\"activation_checkpoint_interval\": 1}}",
       "{\"pipeline\": {\"activation_checkpoint_interval\": 0}}", plain(), plain()},
  };
}

bool speaks(const std::string& id, const std::string& text, const LintSubject& known) {
  const std::vector<LintFinding> findings = findings_of(text, known);
  return std::any_of(findings.begin(), findings.end(),
                     [&](const LintFinding& finding) { return finding.id == id; });
}

TEST_CASE("each rule speaks on its case and is silent on the neighbouring one", "[lint]") {
  for (const RuleCase& c : cases_without_step()) {
    INFO(c.id << "\n" << c.speaks << "\n" << c.silent);
    CHECK(speaks(c.id, c.speaks, c.known));
    CHECK_FALSE(speaks(c.id, c.silent, c.known_silent));
  }
}

// The recorded step: two-operator blocks, 40-byte checkpoints, 100 bytes recomputed each (see
// block_chain.hpp). Activations are of unknown type, so they count as 32-bit: 10 elements.
LintStep chain(int blocks) {
  StepTrace trace = BlockChain(blocks).trace();
  std::vector<BlockRun> runs = find_blocks(trace);
  return {.trace = std::move(trace), .runs = std::move(runs)};
}

LintSubject on(const LintStep& step, std::optional<std::int32_t> model_parallel_size = {}) {
  return {.config = no_config, .model_parallel_size = model_parallel_size, .step = &step};
}

std::vector<RuleCase> cases_with_step(const LintStep& four, const LintStep& deep,
                                      const LintStep& tapped, const LintStep& growing) {
  LintSubject four_in_hf = on(four);
  four_in_hf.target = LintTarget::hf;
  const auto number = [](int n) {
    return file_with("\"number_checkpoints\": " + std::to_string(n));
  };
  return {
      {"hf-has-no-groups", number(2), number(4), four_in_hf, four_in_hf},
      // 10 elements do not divide by 3.
      {"partition-not-divisible", file_with(partition), file_with(partition), on(four, 3),
       on(four, 2)},
      {"input-read-again", file_with(cpu), file_with(cpu), on(tapped), on(four)},
      {"contiguous-sizes-differ", file_with(four_buffers), file_with(four_buffers), on(growing, 2),
       on(four, 2)},
      {"contiguous-grouping", file_with(contiguous + ", \"number_checkpoints\": 2"),
       file_with(four_buffers), on(four, 2), on(four, 2)},
      {"contiguous-grouping", file_with(contiguous + ", \"number_checkpoints\": 9"),
       file_with(four_buffers), on(four, 2), on(four, 2)},
      // One checkpoint of four blocks: the recomputed segment is the peak, wherever its input lies.
      {"cpu-does-not-lower-peak", file_with(cpu + ", \"number_checkpoints\": 1"),
       file_with(cpu + ", \"number_checkpoints\": 24"), on(four), on(deep)},
      {"partition-does-not-lower-peak", file_with(partition + ", \"number_checkpoints\": 1"),
       file_with(partition + ", \"number_checkpoints\": 24"), on(four, 2), on(deep, 2)},
      // 4 blocks: 4 x 40 held + 140 against 2 x 40 held + 280.
      {"larger-segments-raise-peak", number(1), number(4), on(four), on(four)},
  };
}

TEST_CASE("each rule about a recorded step speaks on its case only", "[lint]") {
  const LintStep four = chain(4);
  const LintStep deep = chain(24);
  // The head also reads the second block's input.
  LintStep tapped = chain(4);
  BlockChain model(4);
  for (Op& op : tapped.trace.ops) {
    if (op.name == "head") op.reads.push_back(model.x(1));
  }
  // The third checkpoint is twice as large as the first.
  LintStep growing = chain(4);
  growing.trace.storages[index(model.x(2))].bytes = 80;
  std::set<std::string> seen;
  for (const RuleCase& c : cases_with_step(four, deep, tapped, growing)) {
    INFO(c.id << "\n" << c.speaks << "\n" << c.silent);
    CHECK(speaks(c.id, c.speaks, c.known));
    CHECK_FALSE(speaks(c.id, c.silent, c.known_silent));
    seen.insert(c.id);
  }
  // No rule is without its pair of cases.
  for (const RuleCase& c : cases_without_step()) seen.insert(c.id);
  for (const LintRule& rule : lint_rules()) {
    INFO(rule.id);
    CHECK(seen.count(std::string(rule.id)) == 1);
  }
}

TEST_CASE("rules have unique ids, a summary and a public source", "[lint]") {
  std::set<std::string_view> ids;
  for (const LintRule& rule : lint_rules()) {
    INFO(rule.id);
    CHECK(ids.insert(rule.id).second);
    CHECK_FALSE(rule.summary.empty());
    CHECK(rule.thread.find('/') != std::string_view::npos);
  }
  CHECK(lint_rules().front().id == "inert");
}

TEST_CASE("a finding points at its key in the file", "[lint]") {
  const std::string text = file_with("\"profile\": true");
  for (const LintFinding& finding : findings_of(text, plain())) {
    INFO(finding.id);
    const std::string marked =
        text.substr(finding.place.begin, finding.place.end - finding.place.begin);
    CHECK_THAT(marked, Catch::Contains("profile") || Catch::Contains("activation_checkpointing"));
  }
}

TEST_CASE("a misspelt key is told its right name", "[lint]") {
  std::map<std::string, std::string> meant{{"partitioned_activations", "partition_activations"},
                                           {"num_checkpoints", "number_checkpoints"},
                                           {"Profile", "profile"},
                                           {"cpu_checkpointng", "cpu_checkpointing"}};
  for (const auto& [wrong, right] : meant) {
    INFO(wrong);
    bool is_told = false;
    for (const LintFinding& finding : findings_of(file_with("\"" + wrong + "\": 1"), plain())) {
      if (finding.id == "unknown-key")
        is_told = finding.remedy == "Write \"" + right + "\" instead.";
    }
    CHECK(is_told);
  }
}

TEST_CASE("a sound configuration has no finding above a note", "[lint]") {
  const LintStep deep = chain(24);
  LintSubject known = on(deep, 2);
  for (const LintFinding& finding :
       findings_of(file_with(contiguous + ", \"number_checkpoints\": 24"), known)) {
    INFO(finding.id);
    CHECK(finding.severity == Severity::note);
  }
}

}  // namespace
}  // namespace tidemark
