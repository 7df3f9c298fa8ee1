// A sound file of each kind that no other test keeps, for the fuzz targets to start from.
//
//   write_seeds FOLDER
#include <cstdio>
#include <filesystem>
#include <string>
#include <variant>

#include "block_chain.hpp"
#include "tidemark/gpu_profile.hpp"
#include "tidemark/io.hpp"
#include "tidemark/prediction.hpp"
#include "tidemark/setting.hpp"
#include "tidemark/time_model.hpp"

namespace {

using namespace tidemark;

// All six kinds of step.
Setting everything() {
  Setting setting;
  setting.number_checkpoints = 2;
  setting.partition_activations = true;
  setting.model_parallel_size = 2;
  setting.contiguous_memory_optimization = true;
  setting.cpu_checkpointing = CpuCheckpointing::blocking;
  return setting;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_seeds FOLDER\n");
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/";
  std::filesystem::create_directories(folder);
  StepTrace trace = test::BlockChain(2).trace();
  trace.provenance.calls_without_answer = {
      {.name = "f", .answer = PhantomAnswer::modelled, .times = 2}};
  const auto built = build_schedule(trace, find_blocks(trace), everything());
  const Schedule& schedule = std::get<BuiltSchedule>(built).schedule;
  const Prediction prediction = simulate(trace, schedule);

  RowDetail row;
  row.fingerprint = fingerprint(trace);
  row.row.setting = everything();
  row.schedule = schedule;
  row.predicted = prediction.timeline;
  PlanFile plan;
  plan.fingerprint = fingerprint(trace);
  plan.planner = "tide";
  plan.predicted = prediction.figures;
  plan.schedule = schedule;
  write_file(folder + "step.json", format_step_trace(trace));
  write_file(folder + "row.json", format_row_detail(row));
  write_file(folder + "plan.json", format_plan(plan));
  MachineRates machine = rates_of(gpu_profile("h200"));
  machine.curves.front().width = 128;
  machine.curves.push_back(
      {.work = Work::random, .dtype = ScalarType::float32, .width = 0, .points = {{1, 1e9}}});
  machine.card = with_cudnn_description(gpu_profile("l4"), cudnn_description(gpu_profile("l4")));
  machine.notes = {"a note"};
  write_file(folder + "machine.json", format_machine(machine));
  write_file(folder + "gpu.json", format_gpu_profile(gpu_profile("h200")));
  return 0;
}
