#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <variant>

#include "block_chain.hpp"
#include "tidemark/schedule.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

// A sound schedule of three checkpointed blocks with asynchronous offload, to be damaged.
struct Case {
  BlockChain chain{3};
  Schedule schedule;

  explicit Case(CpuCheckpointing cpu = CpuCheckpointing::async, bool partition = false) {
    Setting setting;
    setting.number_checkpoints = 3;
    setting.method = Method::non_reentrant;
    setting.cpu_checkpointing = cpu;
    setting.partition_activations = partition;
    setting.model_parallel_size = partition ? 2 : 1;
    schedule =
        std::get<BuiltSchedule>(build_schedule(chain.trace(), find_blocks(chain.trace()), setting))
            .schedule;
  }
  template <typename Action>
  std::size_t find(
      std::function<bool(const Action&)> wanted = [](const Action&) { return true; },
      std::size_t from = 0) const {
    for (std::size_t s = from; s < schedule.steps.size(); ++s) {
      const auto* action = std::get_if<Action>(&schedule.steps[s].action);
      if (action != nullptr && wanted(*action)) return s;
    }
    FAIL("no such step");
    return 0;
  }
  template <typename Action>
  Action& at(std::size_t step) {
    return std::get<Action>(schedule.steps[step].action);
  }
  void erase(std::size_t step) {
    schedule.steps.erase(schedule.steps.begin() + static_cast<std::ptrdiff_t>(step));
  }
  // Every message in one text; empty: the schedule is sound.
  std::string verdict() const {
    std::string text;
    for (const Violation& violation : validate(chain.trace(), schedule))
      text += violation.message + "\n";
    return text;
  }
};

TEST_CASE("the undamaged schedules are sound", "[validate]") {
  CHECK(Case().verdict().empty());
  CHECK(Case(CpuCheckpointing::blocking, true).verdict().empty());
  CHECK(Case(CpuCheckpointing::off, true).verdict().empty());
}

TEST_CASE("an operator that never runs is found", "[validate]") {
  Case c;
  // The very last operator: nothing reads what it makes but the caller.
  c.erase(
      c.find<Run>([&](const Run& run) { return index(run.op) + 1 == c.chain.trace().ops.size(); }));
  CHECK_THAT(c.verdict(), Catch::Contains("never runs"));
  CHECK_THAT(c.verdict(), Catch::Contains("must outlive the step"));
}

TEST_CASE("a read of what is not alive is found", "[validate]") {
  Case c;
  c.erase(c.find<Run>([&](const Run& run) { return run.op == c.chain.up(1); }));
  CHECK_THAT(c.verdict(), Catch::Contains("which is not alive"));
}

TEST_CASE("freeing twice, too early or static memory is found", "[validate]") {
  Case twice;
  const std::size_t freed = twice.find<Free>();
  twice.schedule.steps.push_back(twice.schedule.steps[freed]);
  CHECK_THAT(twice.verdict(), Catch::Contains("freed twice"));
  Case fixed;
  fixed.schedule.steps.push_back({.action = Free{make_id<InstanceId>(0)}});
  CHECK_THAT(fixed.verdict(), Catch::Contains("is static and freed"));
  Case early;
  early.schedule.steps.insert(early.schedule.steps.begin(),
                              early.schedule.steps[early.find<Free>()]);
  CHECK_THAT(early.verdict(), Catch::Contains("before it is created"));
}

TEST_CASE("a copy that nobody waits for may not be read, freed or overwritten", "[validate]") {
  Case c;
  while (true) {
    bool found = false;
    for (std::size_t s = 0; s < c.schedule.steps.size() && !found; ++s) {
      if (!std::holds_alternative<Wait>(c.schedule.steps[s].action)) continue;
      // Events are positions: a harmless wait for the first step keeps them in place.
      auto& wait = c.at<Wait>(s);
      if (wait.event == make_id<StepId>(0)) continue;
      wait.event = make_id<StepId>(0);
      found = true;
    }
    if (!found) break;
  }
  CHECK_THAT(c.verdict(), Catch::Contains("is freed while a copy still uses it"));
  CHECK_THAT(c.verdict(), Catch::Contains("before its copy is waited for"));
}

TEST_CASE("a wait for a later step is found", "[validate]") {
  Case c;
  const std::size_t wait = c.find<Wait>();
  c.at<Wait>(wait).event = make_id<StepId>(wait + 5);
  CHECK_THAT(c.verdict(), Catch::Contains("does not come before it"));
}

TEST_CASE("bytes that nobody defined are found", "[validate]") {
  Case c(CpuCheckpointing::blocking);
  c.erase(c.find<Copy>());
  CHECK_THAT(c.verdict(), Catch::Contains("not defined"));
}

TEST_CASE("a gather that lacks a part or overlaps is found", "[validate]") {
  Case lacks(CpuCheckpointing::off, true);
  auto& inputs = lacks.at<Collective>(lacks.find<Collective>()).inputs;
  inputs.pop_back();
  CHECK_THAT(lacks.verdict(), Catch::Contains("leaves bytes undefined"));
  Case more(CpuCheckpointing::off, true);
  auto& doubled = more.at<Collective>(more.find<Collective>()).inputs;
  doubled.push_back(doubled.front());
  CHECK_THAT(more.verdict(), Catch::Contains("more bytes than fit"));
}

TEST_CASE("an operator may not use a slice or what is on the host", "[validate]") {
  Case c(CpuCheckpointing::blocking);
  const auto host = c.at<Copy>(c.find<Copy>()).to;
  const std::size_t down = c.find<Run>([&](const Run& run) { return run.op == c.chain.up(0); });
  c.at<Run>(down).reads[0] = host;
  CHECK_THAT(c.verdict(), Catch::Contains("not on the device"));
  Case sliced(CpuCheckpointing::off, true);
  const auto slice = sliced.at<Copy>(sliced.find<Copy>()).to;
  sliced.at<Run>(sliced.find<Run>([&](const Run& run) { return run.op == sliced.chain.up(0); }))
      .reads[0] = slice;
  CHECK_THAT(sliced.verdict(), Catch::Contains("only a slice"));
}

TEST_CASE("an operator may not be given another storage's instance", "[validate]") {
  Case c;
  const std::size_t run = c.find<Run>([&](const Run& r) { return r.op == c.chain.down(0); });
  c.at<Run>(run).reads[0] = make_id<InstanceId>(0);
  CHECK_THAT(c.verdict(), Catch::Contains("not those of its storages"));
}

TEST_CASE("an old version is not the recorded one", "[validate]") {
  // `down` of block 1 overwrites h1 in place before it makes x2: a recomputation that leaves it out
  // gives backward the value before.
  Case c(CpuCheckpointing::off);
  auto& ops = c.chain.trace().ops;
  ops[index(c.chain.down(1))].writes = {c.chain.h(1)};
  for (Step& step : c.schedule.steps) {
    auto* run = std::get_if<Run>(&step.action);
    if (run != nullptr && run->op == c.chain.down(1)) run->writes = run->reads;
  }
  CHECK_THAT(c.verdict(), Catch::Contains("in version 0, recorded was version 1"));
}

TEST_CASE("random operators keep their recorded order and unrepeatable ones run once",
          "[validate]") {
  Case c(CpuCheckpointing::off);
  c.chain.trace().ops[index(c.chain.up(0))].flags.not_recomputable = true;
  CHECK_THAT(c.verdict(), Catch::Contains("may not run twice"));

  Case random(CpuCheckpointing::off);
  auto& ops = random.chain.trace().ops;
  const std::size_t last = ops.size() - 1;
  ops[0].flags.random = true;
  ops[last].flags.random = true;
  CHECK(random.verdict().empty());
  // The first operator's first run put behind the last one's: also reads what is not there yet.
  const std::size_t first = random.find<Run>([](const Run& run) { return index(run.op) == 0; });
  Step moved = random.schedule.steps[first];
  random.erase(first);
  random.schedule.steps.push_back(moved);
  CHECK_THAT(random.verdict(), Catch::Contains("is random or writes state and first runs after"));
}

TEST_CASE("an operator runs with gradients off only as it can", "[validate]") {
  Case c;
  const OpId up = c.chain.up(0);
  const std::size_t run = c.find<Run>([&](const Run& r) { return r.op == up; });
  c.at<Run>(run).gradients = Gradients::off;
  CHECK_THAT(c.verdict(), Catch::Contains("has no form of its own with gradients off"));
  c.chain.trace().ops[index(up)].no_grad.emplace();
  CHECK(c.verdict().empty());
  c.chain.trace().ops[index(up)].no_grad->omits = {c.chain.h(0)};
  CHECK_THAT(c.verdict(), Catch::Contains("where it does not make"));
}

TEST_CASE("initial instances must be the storages that exist before the step", "[validate]") {
  Case c;
  c.schedule.instances[0].bytes += 1;
  CHECK_THAT(c.verdict(), Catch::Contains("initial instances"));
}

}  // namespace
}  // namespace tidemark
