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
    profile = with_cudnn_description(profile, cudnn_description(profile));
    CHECK_FALSE(profile.cudnn_description.empty());
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

TEST_CASE("cards are found by name, by profile or by calibration", "[gpu_profiles]") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "mine.json";
  GpuProfile mine = gpu_profile("l4");
  mine.name = "mine";
  write_file(path, format_gpu_profile(mine));
  CHECK(find_gpu("l4") == Gpu{gpu_profile("l4"), rates_of(gpu_profile("l4"))});
  CHECK(find_gpu("custom:" + path) == Gpu{mine, rates_of(mine)});
  CHECK_THROWS_AS(find_gpu(path), UsageError);
  CHECK_THROWS_AS(find_gpu("custom:" + (folder / "missing.json")), InputError);

  MachineRates achieved = rates_of(mine);
  achieved.launch_seconds *= 2;
  achieved.card = mine;
  write_file(path, format_machine(achieved));
  CHECK(find_gpu("custom:" + path) == Gpu{mine, achieved});
  achieved.name = "a processor";
  achieved.card.reset();
  write_file(path, format_machine(achieved));
  CHECK_THROWS_WITH(find_gpu("custom:" + path),
                    path +
                        ": is the calibration of a processor, which is no GPU; name a file that "
                        "tidemark calibrate --device cuda wrote");
}

TEST_CASE("what cuDNN says of a card goes with its profile", "[gpu_profiles]") {
  const GpuProfile h200 = gpu_profile("h200");
  nlohmann::json said = nlohmann::json::parse(cudnn_description(h200));
  CHECK(said["deviceVer"] == 900);
  CHECK(said["totalGlobalMem"] == h200.total_memory);
  said["smClockRateKHz"] = 1;
  said["newerKey"] = "kept";
  const GpuProfile own = with_cudnn_description(h200, said.dump(2));
  CHECK(nlohmann::json::parse(cudnn_description(own)) == said);
  CHECK(parse_gpu_profile("p.json", format_gpu_profile(own)) == own);
}

TEST_CASE("a description that cuDNN would refuse is one sentence with the place",
          "[gpu_profiles]") {
  const GpuProfile h200 = gpu_profile("h200");
  const nlohmann::json good = nlohmann::json::parse(cudnn_description(h200));
  const auto refused = [&](const nlohmann::json& said, const std::string& sentence) {
    nlohmann::json profile = nlohmann::json::parse(format_gpu_profile(h200));
    profile["cudnn_description"] = said;
    CHECK_THROWS_WITH(parse_gpu_profile("p.json", profile.dump()),
                      "p.json: " + sentence +
                          "; leave cudnn_description out, or let tidemark calibrate write the file "
                          "again on that card");
    CHECK_THROWS_AS(with_cudnn_description(h200, said.dump()), InputError);
  };
  const auto changed = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json said = good;
    said[key] = value;
    return said;
  };
  refused("a card", "cudnn_description: is not an object");
  for (const auto& [key, value] : good.items()) {
    nlohmann::json said = good;
    said.erase(key);
    refused(said, "cudnn_description: has no \"" + key + "\"");
  }
  refused(changed("deviceName", 7), "cudnn_description.deviceName: is not a text");
  refused(changed("warpSize", "32"), "cudnn_description.warpSize: is not a whole number from 0");
  refused(changed("multiProcessorCount", -1),
          "cudnn_description.multiProcessorCount: is not a whole number from 0");
  refused(changed("maxGridSize", {1, 2}),
          "cudnn_description.maxGridSize: is not a list of 3 whole numbers");
  refused(changed("maxBlockSize", {1, 2, 0.5}),
          "cudnn_description.maxBlockSize: is not a list of 3 whole numbers");
  refused(changed("deviceVer", 890),
          "cudnn_description.deviceVer: is 890, another compute capability than the profile's, "
          "which is 900 there");
  CHECK_THROWS_WITH(with_cudnn_description(h200, "{"),
                    Catch::StartsWith("cuDNN's description of the NVIDIA H200: "));
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
  CHECK(read("clock_khz", 0).clock_khz == 0);  // some drivers say no more
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
