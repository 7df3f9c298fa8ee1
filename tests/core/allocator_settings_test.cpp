#include <catch2/catch.hpp>
#include <string>

#include "tidemark/allocator.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("the settings' syntax is PYTORCH_ALLOC_CONF's", "[allocator_settings]") {
  CHECK(parse_allocator_settings("") == AllocatorSettings{});
  const AllocatorSettings settings = parse_allocator_settings(
      " expandable_segments:True, max_split_size_mb : 128,garbage_collection_threshold:0.8 ");
  CHECK(settings.expandable_segments);
  CHECK(settings.max_split_bytes == 128 * mebibyte);
  CHECK(settings.garbage_collection_threshold == 0.8);
  CHECK_FALSE(parse_allocator_settings("backend:cudaMallocAsync").is_native);
  CHECK(parse_allocator_settings("per_process_memory_fraction:0.25").memory_fraction == 0.25);
}

TEST_CASE("the segments' size comes first, wherever it stands", "[allocator_settings]") {
  const AllocatorSettings settings =
      parse_allocator_settings("max_split_size_mb:64,large_segment_size_mb:64");
  CHECK(settings.large_segment_bytes == 64 * mebibyte);
  CHECK(settings.max_non_split_rounding_bytes == 64 * mebibyte);
  CHECK_THROWS_WITH(parse_allocator_settings("max_split_size_mb:32,large_segment_size_mb:64"),
                    Contains("max_split_size_mb must be at least 64"));
}

TEST_CASE("divisions are given for all sizes or by interval", "[allocator_settings]") {
  CHECK(parse_allocator_settings("roundup_power2_divisions:8").roundup_power2_divisions[15] == 8);
  const auto divisions =
      parse_allocator_settings("roundup_power2_divisions:[4:2,16:8,>:1]").roundup_power2_divisions;
  CHECK(divisions[0] == 2);  // below the first interval its divisions serve
  CHECK(divisions[2] == 2);
  CHECK(divisions[3] == 0);
  CHECK(divisions[4] == 8);
  CHECK(divisions[5] == 1);
  CHECK(divisions[15] == 1);
}

TEST_CASE("what torch refuses is refused in one sentence", "[allocator_settings]") {
  const auto refused = [](const std::string& text, const std::string& problem) {
    CHECK_THROWS_AS(parse_allocator_settings(text), UsageError);
    CHECK_THROWS_WITH(parse_allocator_settings(text), Contains(problem));
  };
  refused("expandable_segments:true", "takes True or False, not 'true'");
  refused("expandable_segments", "lacks a ':' and a value");
  refused("max_split_size_mb:", "lacks a number");
  refused("max_split_size_mb:19", "at least 20, not 19");
  refused("max_split_size_mb:big", "takes a whole number, not 'big'");
  refused("max_split_size_mb=128", "'max_split_size_mb=128' is no key");
  refused("garbage_collection_threshold:1", "between 0 and 1");
  refused("roundup_power2_divisions:3", "powers of two");
  refused("roundup_power2_divisions:[64:8", "closing ']'");
  refused("backend:other", "takes native or cudaMallocAsync, not 'other'");
  refused("per_process_memory_fraction:2", "from 0 to 1");
  refused("pinned_num_register_threads:3", "power of two up to 128");
}

TEST_CASE("written settings are read as the same", "[allocator_settings]") {
  for (const char* text :
       {"", "expandable_segments:True,large_segment_size_mb:64",
        "max_split_size_mb:512,max_non_split_rounding_mb:40,garbage_collection_threshold:0.7",
        "roundup_power2_divisions:[256:1,512:2,1024:4,>:8],per_process_memory_fraction:0.3"}) {
    const AllocatorSettings settings = parse_allocator_settings(text);
    CHECK(parse_allocator_settings(format_allocator_settings(settings)) == settings);
  }
}

TEST_CASE("settings that hold a line break are refused in one line", "[allocator_settings]") {
  try {
    (void)parse_allocator_settings("no\nkey:20");
    FAIL("a key with a line break was read");
  } catch (const UsageError& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace tidemark
