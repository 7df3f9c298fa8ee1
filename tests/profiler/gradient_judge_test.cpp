// Torch has a CHECK of its own, which Catch's replaces: its headers come first.
// clang-format off
#include "recorded_model.hpp"

#include <torch/library.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>
// clang-format on

#include "gradient_judge.hpp"

#include "tidemark/setting.hpp"

namespace tidemark {
namespace {

std::vector<std::uint8_t> bytes_of(const std::vector<float>& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Two parameters, their gradients and the loss: storages 0 to 4.
StepTrace two_parameters() {
  StepTrace trace;
  trace.storages.resize(5);
  trace.storages[0].name = "first";
  trace.storages[1].name = "second";
  for (std::size_t p = 0; p < 2; ++p) {
    TensorView view;
    view.storage = make_id<StorageId>(p + 2);
    trace.gradients.emplace_back(make_id<StorageId>(p), view);
  }
  trace.loss = make_id<StorageId>(4);
  return trace;
}

KeptBytes kept(const std::vector<float>& first, const std::vector<float>& second, float loss) {
  return {{make_id<StorageId>(2), bytes_of(first)},
          {make_id<StorageId>(3), bytes_of(second)},
          {make_id<StorageId>(4), bytes_of({loss})}};
}

TEST_CASE("bits that repeat themselves must be the same, zeros of either sign apart",
          "[gradient_judge]") {
  const StepTrace trace = two_parameters();
  GradientJudge judge(trace);
  judge.add_replay(kept({1, 2}, {0, 3}, 5));
  judge.add_replay(kept({1, 2}, {0, 3}, 5));
  CHECK(judge.judge(kept({1, 2}, {0, 3}, 5)).verdict == GradientVerdict::equal);
  const GradientFinding zero = judge.judge(kept({1, 2}, {-0.0F, 3}, 5));
  CHECK(zero.verdict == GradientVerdict::differ);
  CHECK(zero.note == "1 of 2 gradients differ, first that of second, by up to 0");
  const GradientFinding loss = judge.judge(kept({1, 2}, {0, 3}, 6));
  CHECK(loss.verdict == GradientVerdict::differ);
  CHECK(loss.note == "the loss differs");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(judge.judge(kept({1, nan}, {0, 3}, 5)).note ==
        "1 of 2 gradients differ, first that of first, by up to inf");
}

TEST_CASE("what unscheduled steps do not repeat is told apart from what is wrong",
          "[gradient_judge]") {
  const StepTrace trace = two_parameters();
  GradientJudge judge(trace);
  judge.add_replay(kept({1, 2}, {4, 3}, 5));
  judge.add_replay(kept({1, 2.25F}, {4, 3}, 5));
  judge.add_replay(kept({1, 2.125F}, {4, 3}, 5));
  const GradientFinding near = judge.judge(kept({1, 2.5F}, {4, 3}, 5));
  CHECK(near.verdict == GradientVerdict::not_comparable);
  CHECK(near.note ==
        "1 of 2 gradients, first that of first, differ between unscheduled steps too, since some "
        "kernels are not deterministic: there by up to 0.25, under this schedule by up to 0.5; all "
        "others are equal");
  // Even the same bits say little about it.
  CHECK(judge.judge(kept({1, 2}, {4, 3}, 5)).verdict == GradientVerdict::not_comparable);
  const GradientFinding other = judge.judge(kept({1, 2.5F}, {4, 3.5F}, 5));
  CHECK(other.verdict == GradientVerdict::differ);
  CHECK(other.note == "1 of 2 gradients differ, first that of second, by up to 0.5");
  const GradientFinding wrong = judge.judge(kept({1, 40}, {4, 3}, 5));
  CHECK(wrong.verdict == GradientVerdict::differ);
  CHECK(wrong.note == "1 of 2 gradients differ, first that of first, by up to 38");
}

TEST_CASE("a judge that gave up says why", "[gradient_judge]") {
  const StepTrace trace = two_parameters();
  GradientJudge judge(trace);
  judge.add_replay(kept({1, 2}, {4, 3}, 5));
  judge.give_up("there is no memory");
  const GradientFinding finding = judge.judge(kept({1, 2}, {4, 3}, 5));
  CHECK(finding.verdict == GradientVerdict::not_comparable);
  CHECK(finding.note == "there is no memory");
}

// ---- an operator that does not repeat itself ---------------------------------------------------

double drift_per_call = 0;
double drifted = 1;

at::Tensor drifting(const at::Tensor& like) {
  const at::AutoDispatchBelowADInplaceOrView one_operator;  // what it calls is not recorded
  drifted += drift_per_call;
  return at::full_like(like, drifted);
}

TORCH_LIBRARY(tidemark_test, library) {
  library.def("drifting(Tensor like) -> Tensor");
  library.impl("drifting", c10::DispatchKey::CompositeExplicitAutograd, &drifting);
}

TEST_CASE("a kernel that repeats itself by chance at first is no fault of the schedule",
          "[gradient_judge]") {
  torch::nn::Linear drifts(4, 4);
  torch::nn::Linear stays(4, 4);
  const at::Tensor input = at::ones({2, 4});
  Model model;
  for (const auto& [name, layer] : {std::pair("drifts", drifts), std::pair("stays", stays)}) {
    for (const auto& entry : layer->named_parameters()) {
      model.statics.push_back({name + ("." + entry.key()), Role::parameter, entry.value()});
    }
  }
  model.statics.push_back({"input", Role::input, input});
  const auto op = c10::Dispatcher::singleton()
                      .findSchemaOrThrow("tidemark_test::drifting", "")
                      .typed<at::Tensor(const at::Tensor&)>();
  model.loss = [=]() mutable {
    return (drifts->forward(input) * op.call(input)).sum() + stays->forward(input).sum();
  };
  drift_per_call = 0;
  drifted = 1;
  const RecordedModel recorded = ModelRecording(model).record();
  StepExecution execution(backend(), recorded.trace, values_of(recorded));
  const Schedule plain =
      std::get<BuiltSchedule>(build_schedule(recorded.trace, {}, Setting{})).schedule;
  CHECK(execution.execute(plain, {}).gradients == GradientVerdict::equal);
  drift_per_call = 1e-6;
  const Measurement measured = execution.execute(plain, {});
  CHECK(measured.gradients == GradientVerdict::not_comparable);
  REQUIRE(measured.notes.size() == 1);
  CHECK_THAT(measured.notes.front(), Catch::StartsWith("2 of 4 gradients, first that of drifts.") &&
                                         Catch::Contains("all others are equal"));
}

}  // namespace
}  // namespace tidemark
