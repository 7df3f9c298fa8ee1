// machine.json: what a machine achieves. Documented in the README.
#include <algorithm>
#include <array>
#include <utility>

#include "gpu_profile_json.hpp"
#include "json_reading.hpp"
#include "step_trace_json.hpp"
#include "tidemark/io.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

double read_positive(const JsonCursor& json) {
  const double value = json.number();
  if (!(value > 0)) json.fail("is not positive");
  return value;
}

OrderedJson curve_to_json(const RateCurve& curve) {
  OrderedJson json{{"work", name(curve.work)}, {"dtype", name(curve.dtype)}};
  if (curve.width > 0) json["width"] = curve.width;
  json["points"] = OrderedJson::array();
  for (const RatePoint& point : curve.points) {
    json["points"].push_back({{"amount", point.amount}, {"per_second", point.per_second}});
  }
  return json;
}

RateCurve read_curve(const JsonCursor& json) {
  RateCurve curve;
  curve.work = json.at("work").enumeration<Work>(work_count, [](Work work) { return name(work); });
  const JsonCursor dtype = json.at("dtype");
  const auto known = scalar_type_from_name(dtype.string());
  if (!known) dtype.fail("is no element type such as bfloat16");
  curve.dtype = *known;
  if (const auto width = json.find("width")) curve.width = read_positive(*width);
  const JsonCursor points = json.at("points");
  curve.points = points.list<RatePoint>([](const JsonCursor& point) {
    return RatePoint{.amount = read_positive(point.at("amount")),
                     .per_second = read_positive(point.at("per_second"))};
  });
  const bool ascends =
      std::is_sorted(curve.points.begin(), curve.points.end(),
                     [](const RatePoint& a, const RatePoint& b) { return a.amount <= b.amount; });
  if (curve.points.empty() || !ascends) points.fail("is not a list of rates by ascending amount");
  return curve;
}

std::optional<TransferRates> find_transfer_rates(const JsonCursor& root, const char* key) {
  const auto found = root.find(key);
  return found ? std::optional(read_transfer_rates(*found)) : std::nullopt;
}

}  // namespace

std::string format_machine(const MachineRates& rates) {
  OrderedJson json;
  json["format"] = machine_format;
  json["schema_version"] = MachineRates::schema_version;
  json["device"] = OrderedJson{{"kind", name(rates.kind)}, {"name", rates.name}};
  json["launch_seconds"] = rates.launch_seconds;
  json["rates"] = OrderedJson::array();
  for (const RateCurve& curve : rates.curves) json["rates"].push_back(curve_to_json(curve));
  if (rates.copy_bytes_per_second) json["copy_bytes_per_second"] = *rates.copy_bytes_per_second;
  if (rates.transfer_rates) json["transfer_rates"] = to_json(*rates.transfer_rates);
  if (rates.transfer_rates_together) {
    json["transfer_rates_together"] = to_json(*rates.transfer_rates_together);
  }
  if (rates.card) json["card"] = to_json(*rates.card);
  if (!rates.notes.empty()) json["notes"] = rates.notes;
  return to_text(json, 2) + "\n";
}

MachineRates parse_machine(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  check_format(path, document, machine_format, MachineRates::schema_version);
  const JsonCursor root(path, document, "");
  MachineRates rates;
  const JsonCursor device = root.at("device");
  rates.kind = device.at("kind").enumeration<DeviceKind>(device_kind_count,
                                                         [](DeviceKind k) { return name(k); });
  rates.name = device.at("name").string();
  rates.launch_seconds = root.at("launch_seconds").number_from_zero();
  rates.curves = root.at("rates").list<RateCurve>(read_curve);
  if (rates.curves.empty()) root.at("rates").fail("names no rate");
  if (const auto copies = root.find("copy_bytes_per_second")) {
    rates.copy_bytes_per_second = read_positive(*copies);
  }
  rates.transfer_rates = find_transfer_rates(root, "transfer_rates");
  rates.transfer_rates_together = find_transfer_rates(root, "transfer_rates_together");
  if (const auto card = root.find("card")) rates.card = read_gpu_profile(path, *card);
  if (const auto notes = root.find("notes")) rates.notes = notes->strings();
  return rates;
}

MachineRates read_machine(const std::string& path) { return parse_machine(path, read_file(path)); }

}  // namespace tidemark
