// The report page in a real browser.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "block_chain.hpp"
#include "kept_sweep.hpp"
#include "sample_sweep.hpp"
#include "temporary_folder.hpp"

namespace tidemark {
namespace {

using Json = nlohmann::json;
using test::BlockChain;
using test::KeptSweep;
using test::TemporaryFolder;

std::string page_of(const ReportSource& source) {
  for (const Exporter* each : exporters()) {
    if (each->name() != "html") continue;
    std::ostringstream out;
    each->write(source, out);
    return out.str();
  }
  throw std::runtime_error("there is no page");
}

// What the page shows after its own script has run, as the browser writes it out.
std::string dom_of(const std::string& page, const std::string& options) {
  const TemporaryFolder folder;
  std::ofstream(folder / "page.html") << page;
  const std::string command = std::string(TIDEMARK_BROWSER) +
                              " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage " +
                              options + " --user-data-dir=" + (folder / "profile") +
                              " --dump-dom file://" + (folder / "page.html") + " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string dom;
  std::array<char, 4096> chunk{};
  while (const std::size_t size = fread(chunk.data(), 1, chunk.size(), pipe.get())) {
    dom.append(chunk.data(), size);
  }
  return dom;
}

// Runs `probe` in the page, which fills `result`, and gives that; `errors` is everything that was
// thrown or written to the console as an error or a warning.
Json in_browser(std::string page, const std::string& probe, const std::string& options = "") {
  page.insert(page.find("<head>") + 6,
              "<script>window.found = []; window.onerror = (m) => { found.push(String(m)); };\n"
              "console.error = console.warn = (...m) => { found.push(m.join(' ')); };</script>");
  page.insert(page.rfind("</body>"),
              "<script>{ const result = {};\n" + probe +
                  "\nresult.errors = found;\n"
                  "result.loaded = performance.getEntriesByType('resource').length;\n"
                  "const out = document.createElement('pre'); out.id = 'probe';\n"
                  "out.textContent = encodeURIComponent(JSON.stringify(result));\n"
                  "document.body.append(out); }</script>");
  const std::string dom = dom_of(page, options);
  static const std::string mark = "<pre id=\"probe\">";
  const std::size_t begin = dom.rfind(mark);
  INFO("the browser wrote: " << dom.substr(0, 1000));
  REQUIRE(begin != std::string::npos);
  std::string text;
  for (std::size_t at = begin + mark.size(); dom.at(at) != '<'; ++at) {
    if (dom[at] != '%') {
      text += dom[at];
      continue;
    }
    text += static_cast<char>(std::stoi(dom.substr(at + 1, 2), nullptr, 16));
    at += 2;
  }
  return Json::parse(text);
}

const char* const click_through = R"js(
const $ = (id) => document.getElementById(id);
const picture = (id) => $(id).toDataURL();
const lines = () => [...document.querySelectorAll('#rows tbody tr')];
result.rows = lines().length;
result.chosen = [];
result.pictures = [];
for (const n of [0, 1, 3]) {
  lines().find((line) => line.dataset.row == n).click();
  result.chosen.push($('chosen-name').textContent);
  result.pictures.push(picture('timeline'));
}
$('views').children[2].click();
result.pictures.push(picture('timeline'));
$('theme').click();
result.pictures.push(picture('timeline'));
result.marked = document.querySelectorAll('#rows tr.chosen').length;
const heads = [...document.querySelectorAll('#rows th button')];
const order = () => lines().map((line) => Number(line.dataset.row));
result.order = order();
heads.find((head) => head.textContent === 'predicted peak').click();
result.up = order();
heads.find((head) => head.textContent === 'predicted peak').click();
result.down = order();
result.refused = document.querySelectorAll('#rows tr.refused').length;
result.wide = document.documentElement.scrollWidth > innerWidth;
result.inner = innerWidth;
)js";

std::vector<int> by_peak(const Sweep& sweep, bool is_down) {
  std::vector<int> order(sweep.rows.size());
  for (std::size_t n = 0; n < order.size(); ++n) order[n] = static_cast<int>(n);
  const auto peak = [&](int n) {
    const auto& predicted = sweep.rows[static_cast<std::size_t>(n)].predicted;
    return predicted ? predicted->live_peak_bytes : -1;
  };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    if (peak(a) < 0 || peak(b) < 0) return peak(b) < 0 && peak(a) >= 0;
    return is_down ? peak(a) > peak(b) : peak(a) < peak(b);
  });
  return order;
}

TEST_CASE("a click on a row changes the timeline, and nothing goes wrong", "[browser]") {
  BlockChain chain(6);
  chain.trace().device.copy_bytes_per_second = 1e9;
  const KeptSweep kept(chain.trace(), SweepAxes{}, 700);
  const std::string page = page_of(kept);
  for (const char* size : {"--window-size=1200,900", "--window-size=390,800"}) {
    CAPTURE(size);
    const Json result = in_browser(page, click_through, size);
    CHECK(result["errors"] == Json::array());
    CHECK(result["loaded"] == 0);
    CHECK(result["rows"] == kept.sweep().rows.size());
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t row = std::array<std::size_t, 3>{0, 1, 3}.at(i);
      CHECK(result["chosen"][i] == describe(kept.sweep().rows[row].setting));
    }
    for (std::size_t i = 1; i < result["pictures"].size(); ++i) {
      CAPTURE(i);
      CHECK(result["pictures"][i].get<std::string>().size() > 1000);
      CHECK(result["pictures"][i] != result["pictures"][i - 1]);
    }
    CHECK(result["marked"] == 1);
    CHECK(result["up"] == by_peak(kept.sweep(), false));
    CHECK(result["down"] == by_peak(kept.sweep(), true));
    const auto refused =
        std::count_if(kept.sweep().rows.begin(), kept.sweep().rows.end(),
                      [](const SweepRow& row) { return row.status == Status::invalid; });
    CHECK(refused > 0);
    CHECK(result["refused"] == refused);
    CHECK(result["wide"] == false);
  }
}

TEST_CASE("refused rows, strange names and missing figures do not break the page", "[browser]") {
  Sweep sweep = test::sample_sweep();
  sweep.provenance.model = "x</script><script>found.push('ran')</script>y";
  const char* const choose_all = R"js(
for (const line of [...document.querySelectorAll('#rows tbody tr')]) line.click();
result.status = document.getElementById('chosen-peak').textContent;
result.title = document.title;
)js";
  const Json strange = in_browser(page_of(SweepOnly(sweep)), choose_all);
  CHECK(strange["errors"] == Json::array());
  CHECK(strange["title"] == "Tidemark: script>y");  // the name is a path's last part
  CHECK(strange["status"] == "failed");
  CHECK(in_browser(page_of(SweepOnly(Sweep{})), "")["errors"] == Json::array());
  CHECK(in_browser(page_of(SweepOnly(test::sample_sweep_without_times())), choose_all)["errors"] ==
        Json::array());
}

}  // namespace
}  // namespace tidemark
