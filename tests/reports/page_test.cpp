// The numbers that the report page is made of; how it behaves is tested in a browser.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "block_chain.hpp"
#include "kept_sweep.hpp"
#include "memory_bands.hpp"
#include "page_data.hpp"
#include "sample_sweep.hpp"

namespace tidemark {
namespace {

using Json = nlohmann::json;
using test::BlockChain;
using test::KeptSweep;

TEST_CASE("the bands of every view sum to the level, and the peak is exact", "[page]") {
  BlockChain chain(13);
  chain.trace().ops[3].workspace_bytes = 7;
  const KeptSweep kept(chain.trace(), SweepAxes{});
  const StepBlocks blocks(chain.trace(), kept.sweep());
  CHECK(blocks.names().size() == 13);
  for (std::size_t row = 0; row < kept.sweep().rows.size(); ++row) {
    if (kept.sweep().rows[row].status == Status::invalid) continue;
    for (const std::size_t most : {std::size_t{8}, std::size_t{100000}}) {
      const RowDetail& detail = *kept.detail(row);
      const BandPicture picture = draw_bands(chain.trace(), blocks, detail.schedule, most);
      CHECK(picture.points.size() <= std::max(most, detail.schedule.steps.size()));
      if (most == 8) CHECK(picture.points.size() <= 8);
      const BandPoint& peak = picture.points.at(picture.peak);
      CHECK(peak.live_bytes == detail.row.predicted->live_peak_bytes);
      for (std::size_t t = 0; t < term_count; ++t) {
        CHECK(peak.levels[0][t] == detail.row.predicted->peak_breakdown[t]);
      }
      for (const BandPoint& point : picture.points) {
        CHECK(point.live_bytes == detail.predicted->live_bytes[point.step]);
        for (const auto& view : point.levels) {
          CHECK(std::accumulate(view.begin(), view.end(), Bytes{0}) == point.live_bytes);
        }
      }
      double recomputed = 0;
      for (const double seconds : picture.recompute_seconds) recomputed += seconds;
      CHECK(recomputed == Approx(*detail.row.predicted->recompute_seconds));
      CHECK(picture.recompute_seconds.back() == 0);  // nothing outside the blocks runs again
    }
  }
}

TEST_CASE("blocks are called by the end of their path", "[page]") {
  CHECK(short_names({"transformer.h.0", "transformer.h.1"}) ==
        std::vector<std::string>{"h.0", "h.1"});
  CHECK(short_names({"encoder.layer.0", "decoder.layer.0"}) ==
        std::vector<std::string>{"encoder.layer.0", "decoder.layer.0"});
  CHECK(short_names({"layers.0", "layers.1"}) == std::vector<std::string>{"layers.0", "layers.1"});
  CHECK(short_names({"ops 3-9"}) == std::vector<std::string>{"ops 3-9"});
  CHECK(short_names({}).empty());
}

TEST_CASE("the page's numbers are the sweep's, and text cannot leave its element", "[page]") {
  Sweep sweep = test::sample_sweep();
  sweep.provenance.model = "a/</script><script>alert(1)</script>.pt2";
  sweep.notes.emplace_back("<img src=x onerror=alert(1)>");
  const std::string text = page_data(SweepOnly(sweep));
  CHECK(text.find('<') == std::string::npos);
  const Json page = Json::parse(text);
  REQUIRE(page["rows"].size() == sweep.rows.size());
  CHECK(page["budget"] == *sweep.budget_bytes);
  CHECK(page["rows"][2]["peak"] == sweep.rows[2].measured->figures.live_peak_bytes);
  CHECK(page["rows"][2]["yours"] == true);
  CHECK(page["rows"][1]["status"] == "out of memory: 384 MiB were asked for and 100 MiB were free");
  CHECK(page["rows"][4]["peak"].is_null());
  CHECK(page["rows"][0]["detail"].is_null());
  for (const Json& row : page["rows"]) CHECK(row["keys"].size() == row["cells"].size());
}

TEST_CASE("the headline puts the prediction beside one measured run", "[page]") {
  const auto last_words = [](const Sweep& sweep) {
    const Json headline = Json::parse(page_data(SweepOnly(sweep)))["headline"];
    return headline.at(headline.size() - 2).at(0).get<std::string>();
  };
  Sweep sweep = test::sample_sweep();
  SweepRow& written = sweep.rows.at(sweep.recommended.written->row);
  sweep.rows.front().predicted->step_seconds = 0.1;
  written.predicted->step_seconds = 0.131;
  written.measured->figures.step_seconds = 0.09;
  CHECK(last_words(sweep) == " (predicted: 31 % more)");
  written.measured.reset();
  CHECK(last_words(sweep) == "");
}

TEST_CASE("a sweep without rows, times or a fitting row still makes a page", "[page]") {
  Sweep nothing;
  CHECK(Json::parse(page_data(SweepOnly(nothing)))["headline"][0][0] == "No setting was tried.");
  Sweep tight = test::sample_sweep();
  tight.budget_bytes = 1;
  recommend(tight);
  const Json page = Json::parse(page_data(SweepOnly(tight)));
  CHECK(page["headline"][0][0] == "Nothing fits");
  CHECK(page["written"].is_null());
  CHECK_FALSE(page["reason"].get<std::string>().empty());
  CHECK_NOTHROW(page_data(SweepOnly(test::sample_sweep_without_times())));
}

}  // namespace
}  // namespace tidemark
