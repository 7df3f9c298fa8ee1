// rows/N.json.gz: one row with its schedule and timelines.
#include <utility>

#include "schedule_json.hpp"
#include "sweep_json.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

constexpr const char* row_format = "tidemark.row";
constexpr std::int32_t newest_row_version = 1;

OrderedJson timeline_to_json(const std::optional<MemoryTimeline>& timeline) {
  if (!timeline) return nullptr;
  OrderedJson json;
  json["live_bytes"] = timeline->live_bytes;
  json["host_bytes"] = timeline->host_bytes;
  json["allocated_bytes"] = timeline->allocated_bytes;
  json["reserved_bytes"] = timeline->reserved_bytes;
  return json;
}

std::vector<Bytes> read_levels(const JsonCursor& json) {
  return json.list<Bytes>([](const JsonCursor& level) { return level.bytes(); });
}

std::vector<Bytes> find_levels(const JsonCursor& json, const char* key) {
  const auto found = json.find(key);
  return found ? read_levels(*found) : std::vector<Bytes>{};
}

std::optional<MemoryTimeline> read_timeline(const JsonCursor& root, const char* key) {
  const auto found = root.find(key);
  if (!found) return std::nullopt;
  return MemoryTimeline{.live_bytes = read_levels(found->at("live_bytes")),
                        .host_bytes = read_levels(found->at("host_bytes")),
                        .allocated_bytes = find_levels(*found, "allocated_bytes"),
                        .reserved_bytes = find_levels(*found, "reserved_bytes")};
}

}  // namespace

std::string format_row_detail(const RowDetail& detail) {
  OrderedJson json;
  json["format"] = row_format;
  json["schema_version"] = newest_row_version;
  json["fingerprint"] = detail.fingerprint;
  json["row"] = row_to_json(detail.row);
  json["schedule"] = schedule_to_json(detail.schedule);
  json["predicted_timeline"] = timeline_to_json(detail.predicted);
  json["measured_timeline"] = timeline_to_json(detail.measured);
  return to_text(json) + "\n";
}

RowDetail parse_row_detail(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  check_format(path, document, row_format, newest_row_version);
  const JsonCursor root(path, document, "");
  return {.fingerprint = root.at("fingerprint").string(),
          .row = read_row(root.at("row")),
          .schedule = read_schedule(root.at("schedule")),
          .predicted = read_timeline(root, "predicted_timeline"),
          .measured = read_timeline(root, "measured_timeline")};
}

RowDetail read_row_detail(const std::string& path) {
  return parse_row_detail(path, read_file(path));
}

}  // namespace tidemark
