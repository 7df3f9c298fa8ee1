#include <catch2/catch.hpp>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {
namespace {

TEST_CASE("sizes are plain bytes or carry a suffix", "[parse_bytes]") {
  CHECK(parse_bytes("0") == 0);
  CHECK(parse_bytes("1234") == 1234);
  CHECK(parse_bytes("6GiB") == Bytes{6} << 30);
  CHECK(parse_bytes("6GB") == 6'000'000'000);
  CHECK(parse_bytes("1.5KiB") == 1536);
  CHECK(parse_bytes("2 MiB") == Bytes{2} << 20);
}

TEST_CASE("anything else is refused with the accepted suffixes", "[parse_bytes]") {
  for (const char* text : {"", "G", "6G", "6gib", "-1", "1e3", "6GiBs", "1.5", ".",
                           "99999999999TiB", " 6GiB", "0x10", "nan"}) {
    INFO(text);
    CHECK_THROWS_AS((void)parse_bytes(text), UsageError);
  }
  CHECK_THROWS_WITH((void)parse_bytes("6G"), Catch::Contains("GiB"));
}

}  // namespace
}  // namespace tidemark
