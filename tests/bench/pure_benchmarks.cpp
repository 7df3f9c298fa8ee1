// Simulation and validation per operator, and loading per megabyte, on chains of many lengths.
#include <benchmark/benchmark.h>

#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "allocations.hpp"
#include "block_chain.hpp"
#include "tidemark/io.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

// About `operators` operators: each block has four.
StepTrace chain_of(std::int64_t operators) {
  return test::BlockChain(static_cast<int>(operators / 4)).trace();
}

Schedule one_checkpoint_a_block(const StepTrace& trace) {
  Setting setting;
  const auto runs = find_blocks(trace);
  setting.number_checkpoints = static_cast<std::int32_t>(runs.front().blocks.size());
  return std::get<BuiltSchedule>(build_schedule(trace, runs, setting)).schedule;
}

void simulate_schedule(benchmark::State& state) {
  const StepTrace trace = chain_of(state.range(0));
  const Schedule schedule = one_checkpoint_a_block(trace);
  for (auto _ : state) benchmark::DoNotOptimize(simulate(trace, schedule));
  state.counters["per_operator"] = benchmark::Counter(
      static_cast<double>(trace.ops.size()),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(simulate_schedule)->Arg(500)->Arg(5000)->Unit(benchmark::kMicrosecond);

// The same with allocated and reserved bytes: two steps through the allocator's model.
void simulate_gpu_schedule(benchmark::State& state) {
  StepTrace trace = chain_of(state.range(0));
  for (Storage& storage : trace.storages) storage.bytes *= 100000;
  test::add_allocations(trace);
  const Schedule schedule = one_checkpoint_a_block(trace);
  for (auto _ : state) benchmark::DoNotOptimize(simulate(trace, schedule));
  state.counters["per_operator"] = benchmark::Counter(
      static_cast<double>(trace.ops.size()),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(simulate_gpu_schedule)->Arg(500)->Arg(5000)->Unit(benchmark::kMicrosecond);

void validate_schedule(benchmark::State& state) {
  const StepTrace trace = chain_of(state.range(0));
  const Schedule schedule = one_checkpoint_a_block(trace);
  for (auto _ : state) benchmark::DoNotOptimize(validate(trace, schedule));
}
BENCHMARK(validate_schedule)->Arg(500)->Arg(5000)->Unit(benchmark::kMicrosecond);

void load_trace(benchmark::State& state) {
  const std::string text = format_step_trace(chain_of(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(parse_step_trace("b.json", text));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}
BENCHMARK(load_trace)->Arg(5000)->Unit(benchmark::kMillisecond);

// Beside it: the JSON parser alone on the same text.
void parse_json_only(benchmark::State& state) {
  const std::string text = format_step_trace(chain_of(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(nlohmann::json::parse(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}
BENCHMARK(parse_json_only)->Arg(5000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tidemark

BENCHMARK_MAIN();
