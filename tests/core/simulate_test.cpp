#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <variant>

#include "block_chain.hpp"
#include "scheduled.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/sweep.hpp"

namespace tidemark {
namespace {

using test::scheduled;

using test::BlockChain;

// The level of every step, summed up anew from what is alive: slow, and sharing nothing.
std::vector<Bytes> levels_by_brute_force(const StepTrace& trace, const Schedule& schedule) {
  std::map<InstanceId, Bytes> alive;
  for (std::int32_t i = 0; i < schedule.initial_instances; ++i) {
    alive[static_cast<InstanceId>(i)] = schedule.instances[static_cast<std::size_t>(i)].bytes;
  }
  std::vector<Bytes> levels;
  for (const Step& step : schedule.steps) {
    Bytes extra = 0;
    const auto add = [&](InstanceId id) {
      const Instance& instance = schedule.instances[index(id)];
      if (instance.place == Place::device) alive[id] = instance.bytes;
    };
    if (const auto* run = std::get_if<Run>(&step.action)) {
      extra = trace.ops[index(run->op)].workspace_bytes;
      for (const InstanceId id : run->creates) add(id);
    }
    if (const auto* made = std::get_if<Allocate>(&step.action)) add(made->instance);
    Bytes level = extra;
    for (const auto& [id, bytes] : alive) level += bytes;
    levels.push_back(level);
    if (const auto* freed = std::get_if<Free>(&step.action)) alive.erase(freed->instance);
  }
  return levels;
}

TEST_CASE("what a GPU's step keeps on the host counts in no peak of the device", "[simulate]") {
  StepTrace trace;
  const auto storage = [](Bytes bytes, Role role, const char* device) {
    return Storage{
        .bytes = bytes, .role = role, .name = "", .device = device, .freed_after = {}, .value = {}};
  };
  trace.storages = {storage(10, Role::input, ""), storage(4, Role::constant, "cpu"),
                    storage(8, Role::activation, "cpu"), storage(100, Role::activation, "")};
  Op op;
  op.name = "aten::mul";
  op.reads = {StorageId{0}, StorageId{1}};
  op.creates = {StorageId{2}, StorageId{3}};
  trace.ops = {op};
  trace.keep = {StorageId{3}};
  const auto figures = [&] {
    const auto built = build_schedule(trace, {}, Setting{});
    return simulate(trace, std::get<BuiltSchedule>(built).schedule).figures;
  };
  trace.device.kind = DeviceKind::phantom;
  REQUIRE(figures().static_bytes == 10);
  REQUIRE(figures().live_peak_bytes == 110);
  trace.device.kind = DeviceKind::cpu;
  REQUIRE(figures().static_bytes == 14);
  REQUIRE(figures().live_peak_bytes == 122);
}

TEST_CASE("an operator's outputs and workspace count beside its inputs", "[simulate]") {
  // in(10) -> a(100) with 7 of workspace; a dies; b(50) made from a.
  StepTrace trace;
  trace.storages = {
      {.bytes = 10, .role = Role::input, .name = "", .device = "", .freed_after = {}, .value = {}},
      {.bytes = 100,
       .role = Role::activation,
       .name = "",
       .device = "",
       .freed_after = {},
       .value = {}},
      {.bytes = 50,
       .role = Role::activation,
       .name = "",
       .device = "",
       .freed_after = {},
       .value = {}}};
  Op first;
  first.name = "first";
  first.reads = {make_id<StorageId>(0)};
  first.creates = {make_id<StorageId>(1)};
  first.workspace_bytes = 7;
  Op second;
  second.name = "second";
  second.reads = {make_id<StorageId>(1)};
  second.creates = {make_id<StorageId>(2)};
  trace.ops = {first, second};
  trace.keep = {make_id<StorageId>(2)};
  const Prediction prediction = simulate(trace, scheduled(trace, {}));
  CHECK(prediction.figures.static_bytes == 10);
  CHECK(prediction.figures.live_peak_bytes == 10 + 100 + 50);  // not 10 + 100 + 7
  CHECK(prediction.timeline.live_bytes.front() == 10 + 100 + 7);
  CHECK(prediction.figures.peak_op == make_id<OpId>(1));
  CHECK_FALSE(prediction.figures.step_seconds.has_value());  // no durations, no time
}

TEST_CASE("the terms of the breakdown sum to the peak", "[simulate]") {
  const BlockChain chain(5);
  for (const std::int32_t k : {1, 2, 3, 5}) {
    for (const CpuCheckpointing cpu :
         {CpuCheckpointing::off, CpuCheckpointing::blocking, CpuCheckpointing::async}) {
      Setting setting;
      setting.number_checkpoints = k;
      setting.cpu_checkpointing = cpu;
      const StepFigures figures =
          simulate(chain.trace(), scheduled(chain.trace(), setting)).figures;
      Bytes sum = 0;
      for (const Bytes bytes : figures.peak_breakdown) sum += bytes;
      CHECK(sum == figures.live_peak_bytes);
    }
  }
}

TEST_CASE("every level equals a sum over what is alive", "[simulate][property]") {
  for (const int blocks : {2, 4, 7}) {
    BlockChain chain(blocks);
    for (std::size_t o = 0; o < chain.trace().ops.size(); ++o) {
      chain.trace().ops[o].workspace_bytes = static_cast<Bytes>(o * 37 % 23);
    }
    for (int k = 0; k <= blocks; ++k) {
      for (const bool partition : {false, true}) {
        for (const Method method : {Method::reentrant, Method::non_reentrant}) {
          Setting setting;
          if (k > 0) setting.number_checkpoints = k;
          setting.method = method;
          setting.partition_activations = partition;
          setting.model_parallel_size = 2;
          setting.cpu_checkpointing =
              k % 2 == 0 ? CpuCheckpointing::off : CpuCheckpointing::blocking;
          const Schedule schedule = scheduled(chain.trace(), setting);
          const Prediction prediction = simulate(chain.trace(), schedule);
          const std::vector<Bytes> levels = levels_by_brute_force(chain.trace(), schedule);
          REQUIRE(prediction.timeline.live_bytes == levels);
          CHECK(prediction.figures.live_peak_bytes ==
                *std::max_element(levels.begin(), levels.end()));
        }
      }
    }
  }
}

TEST_CASE("copies on a side queue run beside compute until somebody waits", "[simulate]") {
  BlockChain chain(4);
  // 40 bytes at 4e9 bytes a second take 10 ns, as long as an operator.
  chain.trace().device.copy_bytes_per_second = 4e9;
  Setting setting;
  setting.number_checkpoints = 4;
  setting.method = Method::non_reentrant;
  const auto step_ns = [&](CpuCheckpointing cpu) {
    setting.cpu_checkpointing = cpu;
    return *simulate(chain.trace(), scheduled(chain.trace(), setting)).figures.step_seconds * 1e9;
  };
  // 10 forward operators, 1 + 2 * 4 + 1 backward ones, 4 run again.
  const double plain = step_ns(CpuCheckpointing::off);
  CHECK(plain == Approx(10 * (10 + 10 + 4)));
  // Four copies down and four up, each waited for at once.
  CHECK(step_ns(CpuCheckpointing::blocking) == Approx(plain + 8 * 10));
  // Copies down overlap with the 20 ns of the next block's forward; the two that come up again
  // (x1 and x0) are waited for at once.
  CHECK(step_ns(CpuCheckpointing::async) == Approx(plain + 2 * 10));
}

// Adds up what came and went, by itself.
class AddingWatcher final : public ReplayWatcher {
 public:
  void came(const Instance& instance) override { level(instance.place) += instance.bytes; }
  void went(const Instance& instance) override { level(instance.place) -= instance.bytes; }
  void during(std::size_t step, Bytes live, Bytes host) override {
    CHECK(step == steps++);
    CHECK(live == live_);
    CHECK(host == host_);
  }
  void done(std::size_t step, Queue queue, double begin, double end) override {
    CHECK(step + 1 == steps);
    CHECK(begin >= last_[static_cast<std::size_t>(queue)]);
    CHECK(end >= begin);
    last_[static_cast<std::size_t>(queue)] = end;
  }
  [[nodiscard]] double end() const { return *std::max_element(last_.begin(), last_.end()); }

  std::size_t steps = 0;

 private:
  Bytes& level(Place place) {
    if (place == Place::device) return live_;
    return place == Place::peer ? peer_ : host_;
  }
  Bytes live_ = 0;
  Bytes host_ = 0;
  Bytes peer_ = 0;
  std::array<double, queue_count> last_{};
};

TEST_CASE("a watcher sees every byte and every moment of a replay", "[simulate]") {
  test::BlockChain chain(4);
  chain.trace().device.copy_bytes_per_second = 1e9;
  chain.trace().ops[3].workspace_bytes = 7;
  const auto runs = find_blocks(chain.trace());
  for (const Setting& setting : expand(SweepAxes{}, runs)) {
    const auto built = build_schedule(chain.trace(), runs, setting);
    if (!std::holds_alternative<BuiltSchedule>(built)) continue;
    const Schedule& schedule = std::get<BuiltSchedule>(built).schedule;
    AddingWatcher watcher;
    replay(chain.trace(), schedule, watcher);
    const Prediction prediction = simulate(chain.trace(), schedule);
    CHECK(watcher.steps == schedule.steps.size());
    CHECK(watcher.end() == prediction.figures.step_seconds);
  }
}

}  // namespace
}  // namespace tidemark
