// What a schedule does differently from the recorded step, told by module.
//
//   h.0.mlp.act, h.1.mlp.act and h.2.ln run again    h.*: mlp.act (gelu) in 0 to 1, ln (...) in 2
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

namespace {

// Where an operator stands, with the number of its block taken out: "h.3.mlp.act" is block 3 of
// the family "h.*", at "mlp.act".
struct Location {
  std::string family;
  std::int64_t block = -1;  // -1: in no numbered module
  std::string inner;
};

Location locate(const std::string& module) {
  std::size_t begin = 0;
  while (begin < module.size()) {
    const std::size_t end = std::min(module.find('.', begin), module.size());
    const std::string_view part(module.data() + begin, end - begin);
    const bool is_number =
        !part.empty() && part.size() < 10 && std::all_of(part.begin(), part.end(), [](char c) {
          return std::isdigit(static_cast<unsigned char>(c)) != 0;
        });
    if (is_number) {
      return {.family = module.substr(0, begin) + "*",
              .block = std::stoll(std::string(part)),
              .inner = end < module.size() ? module.substr(end + 1) : ""};
    }
    begin = end + 1;
  }
  return {.family = "", .block = -1, .inner = module};
}

// "0 to 3, 7"
std::string ranges(const std::set<std::int64_t>& numbers) {
  std::string text;
  for (auto first = numbers.begin(); first != numbers.end();) {
    auto last = first;
    while (std::next(last) != numbers.end() && *std::next(last) == *last + 1) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(*first);
    if (last != first) text += " to " + std::to_string(*last);
    first = std::next(last);
  }
  return text;
}

struct Tally {
  std::set<std::int64_t> blocks;
  std::int64_t times = 0;
  Nanoseconds duration{0};
  Bytes bytes = 0;
};

// By family, then by what inside it: place and operator.
using Tallies = std::map<std::string, std::map<std::string, Tally>>;

std::string short_name(const std::string& op) {
  const std::size_t colons = op.rfind("::");
  return colons == std::string::npos ? op : op.substr(colons + 2);
}

Tally& entry(Tallies& tallies, const Op& op) {
  const Location location = locate(op.module);
  const std::string what = location.inner.empty()
                               ? short_name(op.name)
                               : location.inner + " (" + short_name(op.name) + ")";
  Tally& tally = tallies[location.family][what];
  if (location.block >= 0) tally.blocks.insert(location.block);
  ++tally.times;
  return tally;
}

std::vector<std::size_t> creators(const StepTrace& trace) {
  std::vector<std::size_t> creator(trace.storages.size(), trace.ops.size());
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    for (const StorageId id : trace.ops[o].creates) creator[index(id)] = o;
  }
  return creator;
}

// One sentence for each family and set of blocks, those that weigh most first.
void tell(const Tallies& tallies, const std::string& verb, bool by_time,
          std::vector<std::string>& sentences) {
  using Weighted = std::tuple<std::int64_t, std::string>;
  std::vector<Weighted> all;
  for (const auto& [family, entries] : tallies) {
    std::map<std::string, std::pair<std::int64_t, std::string>> by_blocks;
    for (const auto& [what, tally] : entries) {
      auto& [weight, text] = by_blocks[ranges(tally.blocks)];
      weight += by_time ? tally.duration.count() : tally.bytes;
      text += (text.empty() ? "" : ", ") + what;
    }
    for (const auto& [blocks, weighted] : by_blocks) {
      std::string sentence = family.empty() ? "" : family + ": ";
      sentence += weighted.second + " " + verb;
      if (!blocks.empty()) sentence += " in " + blocks;
      sentence += by_time ? ", " + format_seconds(static_cast<double>(weighted.first) * 1e-9)
                          : ", " + format_bytes(weighted.first);
      all.emplace_back(-weighted.first, std::move(sentence));
    }
  }
  std::sort(all.begin(), all.end());
  for (auto& [weight, sentence] : all) sentences.push_back(std::move(sentence));
}

}  // namespace

std::vector<std::string> describe_decisions(const StepTrace& trace, const Schedule& schedule) {
  const std::vector<std::size_t> creator = creators(trace);
  std::vector<char> has_run(trace.ops.size(), 0);
  Tallies recomputed;
  Tallies offloaded;
  for (const Step& step : schedule.steps) {
    if (const auto* run = std::get_if<Run>(&step.action)) {
      const Op& op = trace.ops[index(run->op)];
      if (has_run[index(run->op)] != 0) entry(recomputed, op).duration += op.duration;
      has_run[index(run->op)] = 1;
    } else if (const auto* copy = std::get_if<Copy>(&step.action)) {
      const Instance& from = schedule.instances[index(copy->from)];
      const Place to = schedule.instances[index(copy->to)].place;
      const bool is_offload =
          from.place == Place::device && (to == Place::host_pinned || to == Place::host_pageable);
      if (!is_offload || from.storage == no_storage) continue;
      const std::size_t maker = creator[index(from.storage)];
      if (maker < trace.ops.size()) entry(offloaded, trace.ops[maker]).bytes += copy->bytes;
    }
  }
  std::vector<std::string> sentences;
  tell(recomputed, "recomputed", true, sentences);
  tell(offloaded, "offloaded", false, sentences);
  return sentences;
}

}  // namespace tidemark
