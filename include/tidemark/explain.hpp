// Why a row needs what it needs: what its peak is made of, and what would and would not lower it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tidemark/export.hpp"

namespace tidemark {

struct PeakPart {
  Term term = Term::static_memory;
  Bytes bytes = 0;
  // The step's peak if nothing of this term were on the device at any moment: no change to this
  // term alone can go below it. Absent where the schedule was not kept.
  std::optional<Bytes> peak_without;
  bool operator==(const PeakPart&) const = default;
};

// Storages of one kind on the device at the peak.
struct PeakHolder {
  std::string what;  // "aten::_softmax in blocks.3.attention, activation"
  std::int64_t count = 0;
  Bytes bytes = 0;
  bool operator==(const PeakHolder&) const = default;
};

enum class Effect : std::uint8_t { lowers, changes_nothing, raises, may_lower };
[[nodiscard]] std::string_view key(Effect effect);

// Something that the user could change.
struct Lever {
  std::string name;  // "more checkpoints"
  Effect effect = Effect::changes_nothing;
  // The peak of the sweep's row that has it; of `may_lower`, a bound that it cannot go below.
  Bytes peak_bytes = 0;
  std::optional<std::size_t> row;
  std::optional<double> step_seconds;  // of that row
  std::string reason;                  // one sentence with the numbers
  bool operator==(const Lever&) const = default;
};

// What a caching allocator takes above what the step's storages ask for.
struct AllocatorPeak {
  Bytes allocated_bytes = 0;  // blocks, at their most
  Bytes reserved_bytes = 0;   // segments, at their most; of the steady step
  std::vector<Lever> levers;  // peaks are reserved bytes
  bool operator==(const AllocatorPeak&) const = default;
};

// All peaks but the allocator's are predicted live bytes, so that rows compare exactly.
struct Explanation {
  std::size_t row = 0;
  Bytes peak_bytes = 0;
  std::string where;                // one sentence: the operator, and where in the step it runs
  std::vector<PeakPart> parts;      // by size, the largest first
  std::vector<PeakHolder> holders;  // by size; empty where the schedule was not kept
  std::vector<Lever> levers;
  std::optional<AllocatorPeak> allocator;  // absent where there is none
  bool operator==(const Explanation&) const = default;
};

// Of the chosen row. Throws UsageError for a row that has no prediction.
[[nodiscard]] Explanation explain(const ReportSource& source);

}  // namespace tidemark
