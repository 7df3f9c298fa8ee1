#include <catch2/catch.hpp>
#include <string>

#include "mutations.hpp"
#include "one_sentence.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;
using test::succeeds_or_says_why;

MachineRates full_machine() {
  MachineRates rates;
  rates.name = "a \"card\"";
  rates.kind = DeviceKind::cuda;
  rates.launch_seconds = 4.5e-6;
  rates.curves = {{.work = Work::matmul,
                   .dtype = ScalarType::bfloat16,
                   .width = 128,
                   .points = {{1e6, 1e11}, {1e12, 6.5e14}}},
                  {.work = Work::memory, .dtype = ScalarType::float32, .points = {{1, 3e12}}},
                  {.work = Work::random, .dtype = ScalarType::float32, .points = {{4096, 2e9}}}};
  rates.copy_bytes_per_second = 1e12;
  rates.transfer_rates = TransferRates{1, 2, 3, 4};
  rates.transfer_rates_together = TransferRates{5, 6, 7, 8};
  rates.card = with_cudnn_description(gpu_profile("l4"), cudnn_description(gpu_profile("l4")));
  rates.notes = {"one", "another"};
  return rates;
}

std::string damaged(const std::string& from, const std::string& to) {
  std::string text = format_machine(full_machine());
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("a machine's rates survive writing and reading", "[machine_json]") {
  CHECK(parse_machine("m.json", format_machine(full_machine())) == full_machine());
  MachineRates least;
  least.curves = {{.work = Work::memory, .dtype = ScalarType::int8, .points = {{1, 1}}}};
  CHECK(parse_machine("m.json", format_machine(least)) == least);
}

TEST_CASE("a file without widths and the newer kinds of work is read as before", "[machine_json]") {
  const MachineRates rates = parse_machine("m.json", R"({"format": "tidemark.machine",
    "schema_version": 1, "device": {"kind": "cpu", "name": "old"}, "launch_seconds": 1e-6,
    "rates": [{"work": "memory", "dtype": "float32", "points": [{"amount": 1, "per_second": 2}]}]})");
  CHECK(rates.curves ==
        std::vector{RateCurve{
            .work = Work::memory, .dtype = ScalarType::float32, .width = 0, .points = {{1, 2}}}});
}

TEST_CASE("a broken machine file says where and what", "[machine_json]") {
  const auto refused = [](const std::string& text, const std::string& problem) {
    CHECK_THROWS_AS(parse_machine("m.json", text), InputError);
    CHECK_THROWS_WITH(parse_machine("m.json", text), Contains("m.json") && Contains(problem));
  };
  refused(damaged("tidemark.machine", "tidemark.sweep"), "tidemark.machine");
  refused(damaged("\"matmul\"", "\"guess\""), "rates[0].work");
  refused(damaged("\"bfloat16\"", "\"bf16\""), "is no element type such as bfloat16");
  refused(damaged("\"width\": 128.0", "\"width\": 0"), "rates[0].width");
  refused(damaged("\"width\": 128.0", "\"width\": \"wide\""), "is not a number");
  refused(damaged("\"random\"", "\"luck\""), "rates[2].work");
  refused(damaged("1000000.0", "1e13"), "ascending amount");
  refused(damaged("1000000.0", "-1"), "is not positive");
  refused(damaged("4.5e-06", "-1"), "is negative");
  refused(damaged("\"launch_seconds\"", "\"launch\""), "has no \"launch_seconds\"");
  refused(damaged("\"compute_capability\": \"8.9\"", "\"compute_capability\": \"nine\""),
          "card.compute_capability");
  refused(damaged("\"warpSize\"", "\"warp\""), "card.cudnn_description: has no \"warpSize\"");
}

TEST_CASE("no damage to a machine file is a crash", "[machine_json]") {
  const std::string text = format_machine(full_machine());
  for (unsigned n = 0; n < 3000; ++n) {
    succeeds_or_says_why("m.json", [&] { (void)parse_machine("m.json", test::mutated(text, n)); });
  }
}

}  // namespace
}  // namespace tidemark
