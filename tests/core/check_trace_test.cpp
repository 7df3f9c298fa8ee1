#include <catch2/catch.hpp>

#include "block_chain.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {
namespace {

using test::BlockChain;

StorageId storage(int n) { return make_id<StorageId>(static_cast<std::size_t>(n)); }

TEST_CASE("a recorded chain breaks no rule", "[check_trace]") {
  CHECK(check_trace(BlockChain(3).trace()).empty());
}

TEST_CASE("each broken rule is one sentence that names the culprit", "[check_trace]") {
  const auto broken = [](auto damage) {
    StepTrace trace = BlockChain(2).trace();
    damage(trace);
    const std::vector<std::string> sentences = check_trace(trace);
    return sentences.empty() ? std::string() : sentences.front();
  };
  CHECK_THAT(broken([](StepTrace& t) { t.storages[1].bytes = -1; }),
             Catch::Contains("negative size"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].reads.push_back(storage(999)); }),
             Catch::Contains("operator 1 (up) reads storage 999"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].reads.push_back(t.ops[1].reads[0]); }),
             Catch::Contains("twice"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[2].creates = t.ops[1].creates; }),
             Catch::Contains("created before"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].reads.push_back(t.ops[2].creates[0]); }),
             Catch::Contains("before it is created"));
  CHECK_THAT(broken([](StepTrace& t) {
               t.storages[index(t.ops[1].creates[0])].freed_after = make_id<OpId>(1);
             }),
             Catch::Contains("after it is freed"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[2].phase = Phase::backward; }),
             Catch::Contains("earlier phase"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].workspace_bytes = -1; }),
             Catch::Contains("negative workspace"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].no_grad.emplace().workspace_bytes = -1; }),
             Catch::Contains("negative workspace"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops[1].no_grad.emplace().omits = {storage(0)}; }),
             Catch::Contains("omits storage 0 with gradients off, which it does not create"));
  CHECK_THAT(broken([](StepTrace& t) { t.ops.back().no_grad.emplace(); }),
             Catch::Contains("though it is no forward operator"));
  CHECK_THAT(broken([](StepTrace& t) { t.keep.push_back(storage(999)); }), Catch::Contains("keep"));
  CHECK_THAT(broken([](StepTrace& t) {
               Call call;
               call.arguments.push_back(
                   {TensorView{.storage = storage(0), .sizes = {100}, .strides = {1}}});
               t.ops[0].call = call;
             }),
             Catch::Contains("past the end"));
}

TEST_CASE("an operator's allocations are its own, and freed once", "[check_trace]") {
  const auto judged = [](std::vector<AllocationEvent> events) {
    StepTrace trace = BlockChain(2).trace();
    for (AllocationEvent& event : events) {
      if (event.storage == StorageId{0}) event.storage = trace.ops[1].creates[0];
    }
    trace.ops[1].allocations = std::move(events);
    const std::vector<std::string> sentences = check_trace(trace);
    return sentences.empty() ? std::string() : sentences.front();
  };
  const StorageId created{0};  // stands for the one that the operator creates
  const AllocationEvent make{.is_free = false, .bytes = 8, .storage = no_storage, .temporary = 0};
  const AllocationEvent drop{.is_free = true, .bytes = 8, .storage = no_storage, .temporary = 0};
  CHECK(judged({make, {.is_free = false, .bytes = 100, .storage = created}, drop}).empty());
  CHECK(judged({make, drop, make}).empty());
  CHECK_THAT(judged({drop}), Catch::Contains("frees what it has not allocated"));
  CHECK_THAT(judged({make, make}), Catch::Contains("allocates twice"));
  CHECK_THAT(judged({{.is_free = false, .bytes = 8, .storage = StorageId{1}}}),
             Catch::Contains("storage 1, which it does not create"));
  CHECK_THAT(judged({{.is_free = false, .bytes = 8, .storage = no_storage, .temporary = 7}}),
             Catch::Contains("numbers its temporaries beyond"));
  CHECK_THAT(judged({{.is_free = false, .bytes = -8, .storage = created}}),
             Catch::Contains("negative size"));
}

TEST_CASE("the fingerprint depends on what decides bytes and on nothing else", "[fingerprint]") {
  const std::string original = fingerprint(BlockChain(2).trace());
  CHECK(original.size() == 32);
  const auto changed = [&](auto change) {
    StepTrace trace = BlockChain(2).trace();
    change(trace);
    return fingerprint(trace) != original;
  };
  CHECK(changed([](StepTrace& t) { t.storages[0].bytes += 1; }));
  CHECK(changed([](StepTrace& t) { t.storages[0].role = Role::buffer; }));
  CHECK(changed([](StepTrace& t) { t.ops[0].name = "other"; }));
  CHECK(changed([](StepTrace& t) { t.ops[0].reads.clear(); }));
  CHECK(changed([](StepTrace& t) { t.ops[0].no_grad.emplace().omits = t.ops[0].creates; }));
  CHECK(changed([](StepTrace& t) { t.keep.pop_back(); }));
  CHECK(changed([](StepTrace& t) { t.device.threads = 3; }));
  CHECK(changed([](StepTrace& t) { std::swap(t.ops[0].reads, t.ops[0].writes); }));
  CHECK_FALSE(changed([](StepTrace& t) { t.ops[0].duration = Nanoseconds(99); }));
  CHECK_FALSE(changed([](StepTrace& t) { t.ops[0].module = "x"; }));
  CHECK_FALSE(changed([](StepTrace& t) { t.storages[0].name = "x"; }));
  CHECK_FALSE(changed([](StepTrace& t) { t.provenance.created = "x"; }));
  CHECK_FALSE(changed([](StepTrace& t) { t.device.name = "another processor"; }));
}

}  // namespace
}  // namespace tidemark
