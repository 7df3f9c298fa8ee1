// What every target asks of the chosen row, and how a target refuses what it cannot express.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tidemark/export.hpp"

namespace tidemark {

// The chosen row, which must be one that runs. Throws UsageError.
[[nodiscard]] const SweepRow& chosen_setting(const ReportSource& source);

[[nodiscard]] inline bool is_checkpointed(const Setting& setting) {
  return setting.number_checkpoints.has_value();
}

// Blocks a segment, where all are equal but the last of each run (an encoder and a decoder are two
// runs: blocks under different parents); absent: they are not.
[[nodiscard]] std::optional<std::int64_t> uniform_group(const Setting& setting);

// The class of the blocks without its module path, as frameworks name it; absent: the step was not
// kept, or its modules are not known, or the blocks have several classes.
[[nodiscard]] std::optional<std::string> block_class(const ReportSource& source,
                                                     const Setting& setting);

// Why a target cannot express a setting; absent: it can.
using Objection = std::function<std::optional<std::string>(const Setting& setting)>;

// Throws UsageError when `objection` has one against the chosen row: the reason, and the nearest
// row without one (the fastest that needs no more memory, else the one that needs the least) with
// what it costs, or how to sweep for one.
void refuse_if(const ReportSource& source, std::string_view target, const Objection& objection);

// Objections that several targets share.
[[nodiscard]] std::optional<std::string> needs_single_blocks(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_uniform_groups(const Setting& setting);
// Of Megatron's loops, which take whole groups and ask for layers behind the last one.
[[nodiscard]] std::optional<std::string> needs_no_rest(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_reentrant(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_non_reentrant(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_whole_checkpoints(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_checkpoints_on_device(const Setting& setting);
[[nodiscard]] std::optional<std::string> needs_no_async(const Setting& setting);

// The first of several objections.
template <typename... Objections>
[[nodiscard]] std::optional<std::string> first_of(const Setting& setting,
                                                  Objections... objections) {
  std::optional<std::string> found;
  ((found = found ? found : objections(setting)), ...);
  return found;
}

}  // namespace tidemark
