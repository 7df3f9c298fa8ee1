// Formats that show one step: a Chrome trace and a memory snapshot.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "block_chain.hpp"
#include "kept_sweep.hpp"
#include "pickle.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {
namespace {

using nlohmann::json;
using test::BlockChain;
using test::KeptSweep;

std::string written(const std::string& format, const ReportSource& source) {
  for (const Exporter* each : exporters()) {
    if (each->name() != format) continue;
    std::ostringstream out;
    each->write(source, out);
    return out.str();
  }
  throw std::runtime_error("no exporter is called " + format);
}

std::vector<json> events(const json& trace, const std::string& kind) {
  std::vector<json> found;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == kind) found.push_back(event);
  }
  return found;
}

// What the format asks of each kind of event (Chrome's Trace Event Format).
void check_schema(const json& trace) {
  for (const json& event : trace["traceEvents"]) {
    const std::string kind = event.at("ph");
    CAPTURE(event.dump());
    CHECK(event.at("pid").is_number_integer());
    CHECK(event.at("name").is_string());
    REQUIRE(std::set<std::string>{"M", "X", "C", "s", "f"}.count(kind) == 1);
    if (kind == "M") continue;
    CHECK(event.at("ts").is_number());
    CHECK(event["ts"] >= 0);
    if (kind == "X") CHECK(event.at("dur") >= 0);
    if (kind == "X" || kind == "s" || kind == "f") CHECK(event.at("tid").is_number_integer());
    if (kind == "C") CHECK(event.at("args").at("bytes").is_number_integer());
    if (kind == "s" || kind == "f") CHECK(event.at("id").is_number_integer());
    if (kind == "f") CHECK(event.at("bp") == "e");
  }
}

TEST_CASE("every step of a schedule is on its track, and no slice cuts another", "[perfetto]") {
  BlockChain chain(4);
  chain.trace().device.copy_bytes_per_second = 1e9;
  KeptSweep kept(chain.trace(), SweepAxes{});
  for (std::size_t row = 0; row < kept.sweep().rows.size(); ++row) {
    kept.chosen = row;
    if (kept.sweep().rows[row].status == Status::invalid) {
      CHECK_THROWS_AS(written("perfetto", kept), UsageError);
      continue;
    }
    CAPTURE(describe(kept.sweep().rows[row].setting));
    const json trace = json::parse(written("perfetto", kept));
    check_schema(trace);
    std::size_t runs = 0;
    std::size_t offloads = 0;
    std::map<int, double> ends;
    for (const json& slice : events(trace, "X")) {
      runs += slice["args"].contains("operator") ? 1 : 0;
      offloads += slice["name"] == "offload" ? 1 : 0;
      double& end = ends[slice["tid"]];
      CHECK(slice["ts"].get<double>() >= end - 1e-9);
      end = slice["ts"].get<double>() + slice["dur"].get<double>();
    }
    std::size_t wanted = 0;
    for (const Step& step : kept.detail(row)->schedule.steps) {
      wanted += std::holds_alternative<Run>(step.action) ? 1 : 0;
    }
    CHECK(runs == wanted);
    const auto begins = events(trace, "s");
    const auto arrivals = events(trace, "f");
    CHECK(begins.size() == arrivals.size());
    const bool offloaded =
        kept.sweep().rows[row].setting.cpu_checkpointing == CpuCheckpointing::blocking &&
        !kept.sweep().rows[row].setting.partition_activations;
    if (offloaded) CHECK(begins.size() == offloads);
    if (offloaded) CHECK(offloads > 0);
    for (std::size_t i = 0; i < begins.size(); ++i) CHECK(begins[i]["ts"] <= arrivals[i]["ts"]);
    Bytes peak = 0;
    for (const json& counter : events(trace, "C")) {
      if (counter["name"] == "live") peak = std::max(peak, counter["args"]["bytes"].get<Bytes>());
    }
    CHECK(peak == kept.sweep().rows[row].predicted->live_peak_bytes);
  }
}

TEST_CASE("a step without times is drawn by its order", "[perfetto]") {
  BlockChain chain(3);
  for (Op& op : chain.trace().ops) op.duration = Nanoseconds(0);
  const KeptSweep kept(chain.trace(), SweepAxes{});
  const json trace = json::parse(written("perfetto", kept));
  check_schema(trace);
  for (const json& slice : events(trace, "X")) CHECK(slice["dur"] == 1);
}

TEST_CASE("one step is asked for by row, from a folder that has it", "[perfetto][snapshot]") {
  const BlockChain chain(3);
  const KeptSweep kept(chain.trace(), SweepAxes{});
  for (const char* format : {"perfetto", "snapshot"}) {
    CHECK_THROWS_WITH(written(format, SweepOnly(kept.sweep())), Catch::Contains("folder"));
  }
}

TEST_CASE("plain values are written as Python's protocol 4 has them", "[pickle]") {
  const auto pickled = [](auto write) {
    std::ostringstream out;
    PickleWriter pickle(out);
    write(pickle);
    pickle.finish();
    return out.str().substr(2);  // after the protocol
  };
  using namespace std::string_literals;
  const auto number = [&](std::int64_t value) {
    return pickled([&](PickleWriter& pickle) { pickle.integer(value); });
  };
  CHECK(number(0) == "K\0."s);
  CHECK(number(255) == "K\xff."s);
  CHECK(number(256) == "M\0\x01."s);
  CHECK(number(65536) == "J\0\0\x01\0."s);
  CHECK(number(-1) == "J\xff\xff\xff\xff."s);
  CHECK(number(std::int64_t{1} << 31) == "\x8a\x08\0\0\0\x80\0\0\0\0."s);
  CHECK(pickled([](PickleWriter& pickle) { pickle.boolean(true); }) == "\x88."s);
  CHECK(pickled([](PickleWriter& pickle) { pickle.none(); }) == "N."s);
  CHECK(pickled([](PickleWriter& pickle) { pickle.pair(1, 2); }) == "K\x01K\x02\x86."s);
  const std::string list = pickled([](PickleWriter& pickle) {
    pickle.open_list();
    pickle.text("a");
    pickle.text("a");
    pickle.close_list();
  });
  CHECK(list == "](\x8c\x01\x61\x94h\0e."s);
  CHECK(pickled([](PickleWriter& pickle) { pickle.text(std::string(256, 'x')); }).substr(0, 5) ==
        "X\0\x01\0\0"s);
  const std::string many = pickled([](PickleWriter& pickle) {
    pickle.open_list();
    for (int i = 0; i < 1001; ++i) pickle.none();
    pickle.close_list();
  });
  CHECK(many == "](" + std::string(1000, 'N') + "e(Ne.");
  std::ostringstream out;
  PickleWriter pickle(out);
  CHECK(out.str() == "\x80\x04");
}

TEST_CASE("blocks never overlap, and free ones never touch", "[snapshot]") {
  std::mt19937 random(7);
  AddressSpace space;
  std::map<Bytes, Bytes> taken;
  for (int n = 0; n < 3000; ++n) {
    if (taken.empty() || random() % 5 < 3) {
      const Bytes bytes = static_cast<Bytes>(random() % 5000);
      const Bytes address = space.take(bytes);
      const auto [place, is_new] = taken.emplace(address, bytes);
      REQUIRE(is_new);
      const auto next = std::next(place);
      if (next != taken.end()) CHECK(address + AddressSpace::rounded(bytes) <= next->first);
      if (place != taken.begin()) {
        CHECK(std::prev(place)->first + AddressSpace::rounded(std::prev(place)->second) <= address);
      }
    } else {
      const auto given = std::next(taken.begin(), static_cast<int>(random() % taken.size()));
      space.give_back(given->first, given->second);
      taken.erase(given);
    }
    Bytes all = 0;
    for (const auto& [address, bytes] : taken) all += AddressSpace::rounded(bytes);
    Bytes last = -1;
    for (const auto& [address, bytes] : space.holes()) {
      CHECK(address != last);
      last = address + bytes;
      all += bytes;
    }
    CHECK(all == space.end());
  }
}

}  // namespace
}  // namespace tidemark
