#include "command_explain.hpp"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "options.hpp"
#include "text_table.hpp"
#include "tidemark/explain.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

Json to_json(const std::vector<Lever>& levers) {
  Json json = Json::array();
  for (const Lever& lever : levers) {
    json.push_back(
        {{"name", lever.name},
         {"effect", key(lever.effect)},
         {"peak_bytes", lever.peak_bytes},
         {"row", lever.row ? Json(*lever.row) : Json(nullptr)},
         {"step_seconds", lever.step_seconds ? Json(*lever.step_seconds) : Json(nullptr)},
         {"reason", lever.reason}});
  }
  return json;
}

Json to_json(const Explanation& told, const SweepRow& row) {
  Json json{{"row", told.row},
            {"setting", describe(row)},
            {"live_peak_bytes", told.peak_bytes},
            {"where", told.where}};
  json["parts"] = Json::array();
  for (const PeakPart& part : told.parts) {
    json["parts"].push_back(
        {{"term", key(part.term)},
         {"bytes", part.bytes},
         {"peak_without_bytes", part.peak_without ? Json(*part.peak_without) : Json(nullptr)}});
  }
  json["holders"] = Json::array();
  for (const PeakHolder& holder : told.holders) {
    json["holders"].push_back(
        {{"what", holder.what}, {"count", holder.count}, {"bytes", holder.bytes}});
  }
  json["levers"] = to_json(told.levers);
  json["allocator"] = nullptr;
  if (told.allocator) {
    json["allocator"] = {{"allocated_peak_bytes", told.allocator->allocated_bytes},
                         {"reserved_peak_bytes", told.allocator->reserved_bytes},
                         {"levers", to_json(told.allocator->levers)}};
  }
  return json;
}

std::string share(Bytes part, Bytes whole) {
  std::array<char, 16> text{};
  const double percent =
      whole > 0 ? 100 * static_cast<double>(part) / static_cast<double>(whole) : 0;
  std::snprintf(text.data(), text.size(), "%.1f %%", percent);
  return text.data();
}

void print_levers(const std::vector<Lever>& levers, Effect effect, const char* heading,
                  std::ostream& out) {
  bool is_first = true;
  for (const Lever& lever : levers) {
    if (lever.effect != effect) continue;
    if (is_first) out << '\n' << heading << '\n';
    is_first = false;
    out << "  " << lever.name << ": " << lever.reason << '\n';
  }
}

void print_allocator(const Explanation& told, std::ostream& out) {
  if (!told.allocator) return;
  const AllocatorPeak& peak = *told.allocator;
  out << "\nreserved at most " << format_bytes(peak.reserved_bytes) << ": "
      << format_bytes(told.peak_bytes) << " live, "
      << format_bytes(peak.allocated_bytes - told.peak_bytes) << " more in whole blocks, "
      << format_bytes(peak.reserved_bytes - peak.allocated_bytes)
      << " more in segments; each at its own most\n";
  for (const Lever& lever : peak.levers) {
    out << "  " << lever.name << ": " << lever.reason << '\n';
  }
}

void print(const Explanation& told, const SweepRow& row, std::ostream& out) {
  out << "row " << told.row << ": " << describe(row) << (row.yours ? " (your configuration)" : "")
      << '\n'
      << "predicted peak " << format_bytes(told.peak_bytes) << " live. " << told.where << "\n\n";
  std::vector<std::vector<std::string>> lines{
      {"part of the peak", "bytes", "share", "peak without it"}};
  for (const PeakPart& part : told.parts) {
    lines.push_back({std::string(title(part.term)), format_bytes(part.bytes),
                     share(part.bytes, told.peak_bytes),
                     part.peak_without ? format_bytes(*part.peak_without) : "-"});
  }
  write_text_table(lines, out);
  if (!told.holders.empty()) {
    lines = {{"largest on the device then", "storages", "bytes"}};
    for (const PeakHolder& holder : told.holders) {
      lines.push_back({holder.what, std::to_string(holder.count), format_bytes(holder.bytes)});
    }
    out << '\n';
    write_text_table(lines, out);
  }
  print_levers(told.levers, Effect::lowers, "lowers the peak:", out);
  print_levers(told.levers, Effect::may_lower, "may lower it, but never below:", out);
  print_levers(told.levers, Effect::changes_nothing, "does not lower it:", out);
  print_levers(told.levers, Effect::raises, "raises it:", out);
  print_allocator(told, out);
}

}  // namespace

ExitCode run_explain(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  po::options_description options("options");
  options.add_options()("row", po::value<std::size_t>(),
                        "the row to explain, counted from 0; the recommended one without it")(
      "json", "for programs");
  const auto given = parse_options("explain", "SWEEP is a sweep's folder or its sweep.json.",
                                   options, {"SWEEP"}, arguments, streams);
  if (!given) return ExitCode::done;
  const auto source = open_sweep((*given)["SWEEP"].as<std::string>(),
                                 {.row = option<std::size_t>(*given, "row"), .config = {}});
  const Explanation told = explain(*source);
  const SweepRow& row = source->sweep().rows.at(told.row);
  if (given->count("json") != 0) {
    streams.out << to_json(told, row).dump(2) << '\n';
  } else {
    print(told, row, streams.out);
  }
  return ExitCode::done;
}

}  // namespace tidemark
