#include "tidemark/gpu_profile.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "temporary_folder.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

TEST_CASE("a profile survives writing and reading", "[gpu_profiles]") {
  for (GpuProfile profile : gpu_profiles()) {
    CHECK(parse_gpu_profile("p.json", format_gpu_profile(profile)) == profile);
    profile.cudnn_description = R"({"deviceName":"a card"})";
    profile.limits.threads_per_multiprocessor = 7;
    CHECK(parse_gpu_profile("p.json", format_gpu_profile(profile)) == profile);
  }
}

TEST_CASE("a file need not repeat what the compute capability decides", "[gpu_profiles]") {
  nlohmann::json json = nlohmann::json::parse(format_gpu_profile(gpu_profile("a100-40g")));
  json.erase("threads_per_multiprocessor");
  json.erase("shared_memory_per_block_optin_bytes");
  CHECK(parse_gpu_profile("p.json", json.dump()) == gpu_profile("a100-40g"));
}

TEST_CASE("profiles are found by name or by file", "[gpu_profiles]") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "mine.json";
  GpuProfile mine = gpu_profile("l4");
  mine.name = "mine";
  write_file(path, format_gpu_profile(mine));
  CHECK(find_gpu_profile("l4") == gpu_profile("l4"));
  CHECK(find_gpu_profile("custom:" + path) == mine);
  CHECK_THROWS_AS(find_gpu_profile(path), UsageError);
  CHECK_THROWS_AS(find_gpu_profile("custom:" + (folder / "missing.json")), InputError);
}

TEST_CASE("a wrong profile is one sentence with the place", "[gpu_profiles]") {
  const nlohmann::json good = nlohmann::json::parse(format_gpu_profile(gpu_profile("h200")));
  const auto read = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json json = good;
    if (value.is_null()) {
      json.erase(key);
    } else {
      json[key] = value;
    }
    return parse_gpu_profile("p.json", json.dump());
  };
  CHECK_THROWS_WITH(read("total_memory_bytes", nullptr), Catch::StartsWith("p.json: "));
  CHECK_THROWS_WITH(read("total_memory_bytes", 0), Catch::Contains("total_memory_bytes"));
  CHECK_THROWS_WITH(read("total_memory_bytes", std::int64_t{1} << 50), Catch::Contains("8 TiB"));
  CHECK_THROWS_WITH(read("context_memory_bytes", good["total_memory_bytes"]),
                    Catch::Contains("leaves nothing"));
  CHECK_THROWS_WITH(read("compute_capability", "7.0"), Catch::Contains("7.5 and later"));
  CHECK_THROWS_WITH(read("compute_capability", "nine"), Catch::Contains("compute_capability"));
  CHECK_THROWS_WITH(read("fp8_flops_per_second", -1), Catch::Contains("negative"));
  CHECK_THROWS_WITH(read("multiprocessors", 3.5), Catch::Contains("whole number"));
}

}  // namespace
}  // namespace tidemark
