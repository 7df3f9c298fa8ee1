// Allocated and reserved bytes of schedules.
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <variant>

#include "allocations.hpp"
#include "block_chain.hpp"
#include "scheduled.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/record_stream.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

using test::scheduled;

using Catch::Matchers::Contains;

StepTrace small_chain(int blocks) {
  StepTrace trace = test::BlockChain(blocks).trace();
  test::add_allocations(trace);
  return trace;
}

// Storages and scratch of any size up to 16 MiB.
StepTrace random_chain(std::uint32_t seed) {
  std::mt19937 random(seed);
  StepTrace trace = test::BlockChain(4).trace();
  const auto size = [&] { return 1 + static_cast<Bytes>(random() % (1U << random() % 24)); };
  for (Storage& storage : trace.storages) storage.bytes = size();
  for (Op& op : trace.ops) {
    if (random() % 2 == 0) op.workspace_bytes = size();
  }
  test::add_allocations(trace);
  return trace;
}

Setting checkpointed(std::int32_t k, CpuCheckpointing cpu = CpuCheckpointing::off) {
  Setting setting;
  setting.number_checkpoints = k;
  setting.cpu_checkpointing = cpu;
  return setting;
}

TEST_CASE("blocks of 512 bytes count what is alive", "[allocator_replay]") {
  const StepTrace trace = small_chain(3);
  for (const Setting& setting : {Setting{}, checkpointed(1), checkpointed(3)}) {
    const Schedule schedule = scheduled(trace, setting);
    const Prediction prediction = simulate(trace, schedule);
    // All storages are below 512 bytes, so each instance alive is one block.
    std::vector<char> is_alive(schedule.instances.size(), 0);
    std::fill_n(is_alive.begin(), schedule.initial_instances, 1);
    Bytes peak = 0;
    for (std::size_t s = 0; s < schedule.steps.size(); ++s) {
      Bytes unnamed = 0;
      if (const auto* run = std::get_if<Run>(&schedule.steps[s].action)) {
        for (const InstanceId id : run->creates) {
          if (id == unnamed_instance) {
            ++unnamed;
          } else {
            is_alive[index(id)] = 1;
          }
        }
      }
      const Bytes blocks = unnamed + std::count(is_alive.begin(), is_alive.end(), 1);
      REQUIRE(prediction.timeline.allocated_bytes.at(s) == 512 * blocks);
      peak = std::max(peak, 512 * blocks);
      if (const auto* freed = std::get_if<Free>(&schedule.steps[s].action)) {
        is_alive[index(freed->instance)] = 0;
      }
    }
    CHECK(prediction.figures.allocated_peak_bytes == peak);
    CHECK(prediction.figures.reserved_peak_bytes == 2 * mebibyte);
    CHECK(prediction.figures.first_reserved_peak_bytes == 2 * mebibyte);
  }
}

TEST_CASE("live <= allocated <= reserved at every step", "[allocator_replay]") {
  int growing = 0;  // predictions whose steady step takes more than the first
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    const StepTrace trace = random_chain(seed);
    SimulateOptions options;
    options.allocator.expandable_segments = seed % 3 == 1;
    if (seed % 3 == 2) options.allocator.max_split_bytes = 20 * mebibyte;
    for (const Setting& setting :
         {Setting{}, checkpointed(2), checkpointed(4, CpuCheckpointing::blocking)}) {
      const Prediction prediction = simulate(trace, scheduled(trace, setting), options);
      const MemoryTimeline& timeline = prediction.timeline;
      REQUIRE(timeline.allocated_bytes.size() == timeline.live_bytes.size());
      for (std::size_t s = 0; s < timeline.live_bytes.size(); ++s) {
        REQUIRE(timeline.live_bytes[s] <= timeline.allocated_bytes[s]);
        REQUIRE(timeline.allocated_bytes[s] <= timeline.reserved_bytes[s]);
      }
      const StepFigures& figures = prediction.figures;
      CHECK(figures.live_peak_bytes <= *figures.allocated_peak_bytes);
      CHECK(*figures.allocated_peak_bytes <= *figures.reserved_peak_bytes);
      CHECK(*figures.first_reserved_peak_bytes <= *figures.reserved_peak_bytes);
      growing += *figures.first_reserved_peak_bytes < *figures.reserved_peak_bytes ? 1 : 0;
    }
  }
  CHECK(growing > 0);
}

TEST_CASE("without the operators' allocations there is no prediction", "[allocator_replay]") {
  StepTrace trace = small_chain(2);
  const Schedule schedule = scheduled(trace, {});
  CHECK(simulate(trace, schedule).figures.allocated_peak_bytes);
  SimulateOptions other_backend;
  other_backend.allocator.is_native = false;
  CHECK_FALSE(simulate(trace, schedule, other_backend).figures.allocated_peak_bytes);
  trace.device.kind = DeviceKind::cpu;
  CHECK_FALSE(simulate(trace, schedule).figures.reserved_peak_bytes);
  CHECK_FALSE(simulate(trace, schedule).figures.pinned_reserved_bytes);
  trace.device.kind = DeviceKind::cuda;
  trace.ops.back().allocations.reset();
  CHECK_FALSE(simulate(trace, schedule).figures.first_reserved_peak_bytes);
  CHECK(simulate(trace, schedule).timeline.reserved_bytes.empty());
}

TEST_CASE("a device that is too small is a value", "[allocator_replay]") {
  const StepTrace trace = random_chain(3);
  const Schedule schedule = scheduled(trace, {});
  const Prediction enough = simulate(trace, schedule);
  REQUIRE_FALSE(enough.out_of_memory);
  SimulateOptions options;
  options.device.total_bytes = *enough.figures.reserved_peak_bytes;
  CHECK_FALSE(simulate(trace, schedule, options).out_of_memory);
  options.device.total_bytes = enough.figures.live_peak_bytes - 1;
  const Prediction short_of = simulate(trace, schedule, options);
  REQUIRE(short_of.out_of_memory);
  CHECK_THAT(*short_of.out_of_memory, Contains("asks for") && Contains("free on the device"));
  CHECK(*short_of.figures.reserved_peak_bytes <= *options.device.total_bytes);
  CHECK(short_of.timeline.allocated_bytes.empty());
  options.device = {.total_bytes = 2 * *enough.figures.reserved_peak_bytes,
                    .taken_bytes = 2 * *enough.figures.reserved_peak_bytes};
  CHECK_THAT(*simulate(trace, schedule, options).out_of_memory,
             Contains("the static storages asks for"));
}

// Segments fit their blocks from 10 MiB on, in units of 2 MiB; up to 1 MiB is not split off.
TEST_CASE("the steady step starts with the first one's segments", "[allocator_replay]") {
  StepTrace trace;
  trace.device.kind = DeviceKind::cuda;
  const auto add = [&](Bytes bytes, std::optional<OpId> freed_after) {
    trace.storages.push_back({.bytes = bytes,
                              .role = Role::activation,
                              .name = "",
                              .device = "",
                              .freed_after = freed_after,
                              .value = {}});
    Op op;
    op.name = "op";
    op.creates = {make_id<StorageId>(trace.storages.size() - 1)};
    trace.ops.push_back(op);
  };
  add(25 * mebibyte, OpId{1});
  add(30 * mebibyte, OpId{1});
  add(40 * mebibyte, OpId{3});
  add(10 * mebibyte, std::nullopt);
  test::add_allocations(trace);
  trace.keep = {StorageId{3}};
  const Prediction prediction = simulate(trace, scheduled(trace, {}));
  CHECK(prediction.figures.allocated_peak_bytes == (26 + 30) * mebibyte);
  // 40 fits into neither; 10 comes out of the 26.
  CHECK(prediction.figures.first_reserved_peak_bytes == 96 * mebibyte);
  CHECK(prediction.figures.reserved_peak_bytes == 96 * mebibyte);
  CHECK(prediction.timeline.reserved_bytes.front() == 96 * mebibyte);
}

TEST_CASE("checkpoints on the host take pinned memory in powers of two", "[allocator_replay]") {
  StepTrace trace = small_chain(2);
  const Schedule schedule = scheduled(trace, checkpointed(2, CpuCheckpointing::async));
  Bytes pinned = 0;
  for (const Instance& instance : schedule.instances) {
    if (instance.place == Place::host_pinned) pinned += instance.bytes;
  }
  const Prediction prediction = simulate(trace, schedule);
  if (pinned == 0) {
    CHECK(prediction.figures.pinned_reserved_bytes == 0);
  } else {
    // Checkpoints of 40 bytes each.
    CHECK(*prediction.figures.pinned_reserved_bytes % 64 == 0);
    CHECK(*prediction.figures.pinned_reserved_bytes >= prediction.figures.host_peak_bytes);
  }
}

TEST_CASE("copies that lag keep what they touch reserved to the end of the step",
          "[allocator_replay]") {
  test::BlockChain chain(4);
  for (int i = 0; i <= 4; ++i) chain.trace().storages[index(chain.x(i))].bytes = 32 * mebibyte;
  for (Op& op : chain.trace().ops) {
    for (const StorageId id : op.creates) {
      Storage& storage = chain.trace().storages[index(id)];
      if (storage.bytes == 40) storage.bytes = 32 * mebibyte;  // the gradients of x
    }
  }
  test::add_allocations(chain.trace());
  const StepTrace& trace = chain.trace();
  CHECK_FALSE(lagging_copies(trace, scheduled(trace, checkpointed(4)), {}).has_value());

  const Schedule schedule = scheduled(trace, checkpointed(4, CpuCheckpointing::async));
  const auto lag = lagging_copies(trace, schedule, {});
  REQUIRE(lag.has_value());
  // x0 and x1 come back, one after the other, into one segment of the copying stream.
  const StepFigures own = simulate(trace, schedule).figures;
  CHECK(lag->drained.reserved == *own.reserved_peak_bytes + 32 * mebibyte);
  CHECK(lag->drained.in_use == *own.allocated_peak_bytes);
  // Lagging, x0 and x1 leave their segments to nobody, and neither does x1 when it has come back.
  CHECK(lag->backlogged.reserved == lag->drained.reserved + 3 * 32 * mebibyte);
}

// Under DeepSpeed's own copies the library's workspace comes with the first recomputed product,
// into what is free then, and stays there.
TEST_CASE("lagging copies leave the workspace where the first recomputation put it",
          "[allocator_replay]") {
  test::BlockChain chain(4);
  StepTrace& trace = chain.trace();
  for (int i = 0; i < 4; ++i) trace.ops[index(chain.up(i))].name = "aten::addmm";
  for (Storage& storage : trace.storages) {
    if (storage.bytes == 100) storage.bytes = 32 * mebibyte;  // h and its gradient
  }
  for (Op& op : trace.ops) {
    if (op.name == "head") op.workspace_bytes = 40 * mebibyte;
  }
  test::add_allocations(trace);
  const Schedule plain = scheduled(trace, checkpointed(4, CpuCheckpointing::async));
  // 32 for h, 40 for the head, in which h's gradient has room; everything else is small, and what
  // is fetched comes from the other stream's small segment.
  CHECK(lagging_copies(trace, plain, {})->drained.reserved == (32 + 40 + 2 + 2) * mebibyte);

  trace.recomputation_workspace_bytes = 12 * mebibyte;
  const Schedule schedule = scheduled(trace, checkpointed(4, CpuCheckpointing::async));
  // It takes its 12 from the head's 40, so that h's gradient needs 32 more, and so does the next
  // step's head its 40. From the beginning on it would have had a segment of its own.
  const auto lag = lagging_copies(trace, schedule, {});
  REQUIRE(lag.has_value());
  CHECK(lag->drained.reserved == (32 + 40 + 32 + 40 + 2 + 2) * mebibyte);
  CHECK(lag->drained.in_use == *simulate(trace, schedule).figures.allocated_peak_bytes);
}

TEST_CASE("each direction of a copy has its own bandwidth", "[simulate]") {
  StepTrace trace = small_chain(2);
  Schedule schedule = scheduled(trace, {});
  const auto instance = [&](Place place) {
    schedule.instances.push_back(
        {.storage = no_storage, .number = 0, .bytes = 1000, .place = place});
    return make_id<InstanceId>(schedule.instances.size() - 1);
  };
  const InstanceId device = instance(Place::device);
  const InstanceId pinned = instance(Place::host_pinned);
  const InstanceId pageable = instance(Place::host_pageable);
  const auto transfer_seconds = [&](InstanceId from, InstanceId to) {
    Schedule copying = schedule;
    for (const InstanceId id : {device, pinned, pageable}) {
      copying.steps.push_back({.action = Allocate{id}, .cause = Cause::offload});
    }
    copying.steps.push_back(
        {.action = Copy{.from = from, .to = to, .bytes = 1000}, .cause = Cause::offload});
    return simulate(trace, copying).figures.transfer_seconds;
  };
  trace.device.copy_bytes_per_second = 10;
  CHECK(transfer_seconds(device, pinned) == Approx(100));
  trace.device.transfer_rates = TransferRates{.pinned_to_device = 1000,
                                              .pinned_to_host = 500,
                                              .pageable_to_device = 200,
                                              .pageable_to_host = 100};
  CHECK(transfer_seconds(pinned, device) == Approx(1));
  CHECK(transfer_seconds(device, pinned) == Approx(2));
  CHECK(transfer_seconds(pageable, device) == Approx(5));
  CHECK(transfer_seconds(device, pageable) == Approx(10));
  CHECK(transfer_seconds(device, device) == Approx(100));
}

}  // namespace
}  // namespace tidemark
