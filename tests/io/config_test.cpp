#include "tidemark/config.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "mutations.hpp"
#include "one_sentence.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

using test::mutated;
using test::succeeds_or_says_why;

const std::string commented = R"({
  // how large a batch
  "train_batch_size": 8,   # per step
  "activation_checkpointing": {
    "partition_activations": false,  // not yet
    'number_checkpoints': null,
    cpu_checkpointing: false,
  },
  "zero_optimization": { "stage": 1 }
}
)";

ActivationCheckpointing read_block(const std::string& text) {
  return parse_config("c.json", text).activation_checkpointing;
}

TEST_CASE("a missing key and a missing block take DeepSpeed's defaults", "[config]") {
  CHECK(read_block("{}") == ActivationCheckpointing{});
  CHECK(read_block(R"({"activation_checkpointing": {}})") == ActivationCheckpointing{});
  CHECK(find_block(parse_config("c.json", "{}")) == nullptr);
}

TEST_CASE("comments, trailing commas and unquoted keys are taken as hjson takes them", "[config]") {
  const Config config = parse_config("c.json", commented);
  CHECK(find_block(config) != nullptr);
  CHECK(config.activation_checkpointing == ActivationCheckpointing{});
  const auto block =
      read_block("activation_checkpointing: {profile: true\n number_checkpoints: 3}");
  CHECK(block.profile);
  CHECK(block.number_checkpoints == 3);
}

TEST_CASE("duplicate keys are refused as DeepSpeed refuses them", "[config]") {
  CHECK_THROWS_WITH(
      parse_config("c.json", R"({"a": 1, "a": 2})"),
      Catch::Contains("Duplicate keys in DeepSpeed config: ['a']") && Catch::Contains("line 1"));
}

TEST_CASE("a key that holds a line break stands in a message of one line", "[config]") {
  try {
    (void)parse_config("c.json", "{'a\nb' 1}");
    FAIL("a key without a colon was read");
  } catch (const InputError& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

TEST_CASE("values of another type are taken by Python's truth", "[config]") {
  const auto flag = [](const std::string& value) {
    return read_block(R"({"activation_checkpointing": {"profile": )" + value + "\n}}").profile;
  };
  CHECK(flag("\"false\""));
  CHECK(flag("1"));
  CHECK_FALSE(flag("0"));
  CHECK_FALSE(flag("null"));
  CHECK_FALSE(flag("\"\""));
}

TEST_CASE("the recommended keys are written and nothing else is touched", "[config]") {
  const Config config = parse_config("c.json", commented);
  ActivationCheckpointing wanted;
  wanted.number_checkpoints = 6;
  wanted.cpu_checkpointing = true;
  const std::string written = with_block(config, wanted);
  std::string expected = commented;
  expected.replace(expected.find("null"), 4, "6");
  expected.replace(expected.find("cpu_checkpointing: false"), 24, "cpu_checkpointing: true");
  CHECK(written == expected);
  CHECK(with_block(config, config.activation_checkpointing) == commented);
}

TEST_CASE("a missing key is added behind the block's last one in its own style", "[config]") {
  const std::string text = "{\n  \"activation_checkpointing\": {\n    \"profile\": false\n  }\n}\n";
  ActivationCheckpointing wanted;
  wanted.number_checkpoints = 2;
  CHECK(
      with_block(parse_config("c.json", text), wanted) ==
      "{\n  \"activation_checkpointing\": {\n    \"profile\": false,\n    \"number_checkpoints\": "
      "2\n  }\n}\n");
}

TEST_CASE("a comment behind the last key stays behind it", "[config]") {
  ActivationCheckpointing wanted;
  wanted.number_checkpoints = 2;
  wanted.cpu_checkpointing = true;
  const auto written = [&](const std::string& block) {
    const std::string text = "{\n  activation_checkpointing: {\n" + block + "  }\n}\n";
    const std::string result = with_block(parse_config("c.json", text), wanted);
    REQUIRE(read_block(result).number_checkpoints == 2);
    const std::size_t begin = result.find("{\n", 1) + 2;
    return result.substr(begin, result.find("  }\n") - begin);
  };
  const std::string others = "    cpu_checkpointing: true,\n    number_checkpoints: 2";
  CHECK(written("    profile: false  // mine\n") ==
        "    profile: false,  // mine\n" + others + "\n");
  CHECK(written("    profile: false  # mine\n") == "    profile: false,  # mine\n" + others + "\n");
  CHECK(written("    profile: false  /* mine */\n") ==
        "    profile: false,  /* mine */\n" + others + "\n");
  // A trailing comma stays one.
  CHECK(written("    profile: false,  // mine\n") ==
        "    profile: false,  // mine\n" + others + ",\n");
  // Only a comment that ends its line: what follows another is the block's end.
  CHECK(written("    profile: false /* a\n b */\n") ==
        "    profile: false,\n" + others + " /* a\n b */\n");
}

// Whatever the file looks like, the written one reads as wanted.
TEST_CASE("every block can be written into every style of file", "[config][property]") {
  const std::vector<std::string> files{
      "{}",
      "{\n}\n",
      "",
      commented,
      R"({"train_batch_size": 1})",
      "{\r\n  \"train_batch_size\": 1,\r\n}\r\n",
      "train_batch_size: 1\n",
      "train_batch_size: text without quotes\n",
      R"({"activation_checkpointing": {}, "a": 1})",
      R"({"activation_checkpointing": null})",
      "{\n\t\"activation_checkpointing\": {\n\t\t\"profile\": true, \"number_checkpoints\": "
      "4\n\t}\n}",
      "{activation_checkpointing: {profile: \"yes\" // odd\n} }",
      "{\n  train_batch_size: 1 // no block\n}\n",
      "train_batch_size: 1 # no braces\n",
      "{\r\n  a: 1, // comma\r\n}\r\n",
      "{\n  a: 1 /* one */ }\n",
      "{\n  activation_checkpointing: {\n    profile: true // last\n  } // block\n}\n",
      "{\n  activation_checkpointing: {\n    note: no quotes here\n  }\n}\n",
  };
  for (const std::string& text : files) {
    for (int bits = 0; bits < 32; ++bits) {
      for (const int number : {0, 1, 12}) {
        ActivationCheckpointing wanted;
        wanted.partition_activations = (bits & 1) != 0;
        wanted.cpu_checkpointing = (bits & 2) != 0;
        wanted.contiguous_memory_optimization = (bits & 4) != 0;
        wanted.synchronize_checkpoint_boundary = (bits & 8) != 0;
        wanted.profile = (bits & 16) != 0;
        if (number > 0) wanted.number_checkpoints = number;
        const Config config = parse_config("c.json", text);
        const std::string written = with_block(config, wanted);
        INFO("from\n" << text << "\nto\n" << written);
        REQUIRE(read_block(written) == wanted);
        CHECK(with_block(parse_config("c.json", written), wanted) == written);
        if (wanted == config.activation_checkpointing) CHECK(written == text);
      }
    }
  }
}

TEST_CASE("a setting and its block mean the same", "[config]") {
  ActivationCheckpointing block;
  block.cpu_checkpointing = true;
  block.number_checkpoints = 4;
  const DeepSpeedVersion now{.major = 0, .minor = 19, .patch = 8};
  const DeepSpeedVersion before{.major = 0, .minor = 19, .patch = 5};
  const Setting setting = setting_of(block, 2, Method::reentrant, now);
  CHECK(setting.cpu_checkpointing == CpuCheckpointing::async);
  CHECK(setting_of(block, 2, Method::reentrant, before).cpu_checkpointing ==
        CpuCheckpointing::blocking);
  CHECK(block_of(setting, {}) == block);
  block.partition_activations = true;
  CHECK(setting_of(block, 2, Method::reentrant, now).cpu_checkpointing ==
        CpuCheckpointing::blocking);
}

TEST_CASE("a broken configuration is refused in one sentence", "[config][mutation]") {
  int refused = 0;
  for (unsigned n = 0; n < 3000; ++n) {
    const std::string broken = mutated(commented, n);
    const bool is_read = succeeds_or_says_why("c.json", [&] {
      const Config config = parse_config("c.json", broken);
      ActivationCheckpointing wanted;
      wanted.number_checkpoints = 3;
      (void)with_block(config, wanted);
    });
    refused += is_read ? 0 : 1;
  }
  CHECK(refused > 300);
}

}  // namespace
}  // namespace tidemark
