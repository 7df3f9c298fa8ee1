#include "unanswered_calls.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
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

const std::string sentence =
    "the phantom GPU has no exact answer to: cuDNN batch norm (3), cufftExecC2C (1); Fourier "
    "transforms (cuFFT) are not covered by a phantom GPU: measure the step without them";

StepTrace phantom_step(std::optional<std::vector<PhantomCall>> calls) {
  StepTrace trace = BlockChain(6).trace();
  trace.device.kind = DeviceKind::phantom;
  trace.device.name = "h200";
  trace.provenance.calls_without_answer = std::move(calls);
  return trace;
}

StepTrace step_with_calls() {
  return phantom_step({{{.name = "cuDNN batch norm", .answer = PhantomAnswer::modelled, .times = 3},
                        {.name = "cufftExecC2C", .answer = PhantomAnswer::refused, .times = 1}}});
}

TEST_CASE("a recorded step's calls without an exact answer are named", "[unanswered_calls]") {
  CHECK(describe_unanswered_calls(step_with_calls()) == sentence);
  CHECK_FALSE(describe_unanswered_calls(phantom_step(std::vector<PhantomCall>{})));
  CHECK_FALSE(describe_unanswered_calls(BlockChain(2).trace()));
  CHECK_THAT(describe_unanswered_calls(phantom_step(std::nullopt)).value_or(""),
             Catch::StartsWith("the trace does not tell which calls"));
}

TEST_CASE("a note of the same kind by another process is replaced", "[unanswered_calls]") {
  std::vector<std::string> notes{"the phantom GPU has no exact answer to: cuDNN batch norm (9)",
                                 "another"};
  note_unanswered_calls(step_with_calls(), notes);
  CHECK(notes == std::vector<std::string>{"another", sentence});
  note_unanswered_calls(step_with_calls(), notes);
  CHECK(notes == std::vector<std::string>{"another", sentence});
}

TEST_CASE("commands name a saved step's calls and refuse them with --strict",
          "[unanswered_calls][cli]") {
  const TemporaryFolder folder;
  const std::string step = folder / "step.json.gz";
  write_step_trace(step_with_calls(), step);
  const std::vector<Arguments> commands{
      {"inspect", step},
      {"inspect", step, "--json"},
      {"sweep", step, "--no-execute"},
      {"plan", step, "--budget", "1GiB"},
      {"plan", step, "--budget", "1GiB", "--json"},
      {"plan", step, "-o", folder / "front"},
  };
  for (Arguments command : commands) {
    CAPTURE(command);
    const Outcome noted = run(command);
    CHECK(noted.code == ExitCode::done);
    CHECK_THAT(noted.out, Catch::Contains(sentence));
    command.emplace_back("--strict");
    const Outcome refused = run(command);
    CHECK(refused.code == ExitCode::failed);
    CHECK_THAT(refused.err, Catch::Contains("tidemark: " + sentence +
                                            "; without --strict that is only noted\n"));
  }
  const PlanFile point = read_plan(folder / "front" + "/plan-0.json");
  CHECK(std::count(point.notes.begin(), point.notes.end(), sentence) == 1);
}

TEST_CASE("a sweep keeps what its step could not be answered", "[unanswered_calls][cli]") {
  const TemporaryFolder folder;
  const std::string step = folder / "step.json.gz";
  write_step_trace(step_with_calls(), step);
  REQUIRE(run({"sweep", step, "--no-execute", "-o", folder / "out"}).code == ExitCode::done);
  const Sweep sweep = read_sweep(folder / "out" + "/sweep.json");
  CHECK(sweep.provenance.calls_without_answer == step_with_calls().provenance.calls_without_answer);
  CHECK(std::count(sweep.notes.begin(), sweep.notes.end(), sentence) == 1);
  const StepTrace kept = read_step_trace(folder / "out" + "/step.json.gz");
  CHECK(kept == step_with_calls());
}

}  // namespace
}  // namespace tidemark
