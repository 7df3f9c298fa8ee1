// Whether a step computed what the unscheduled step computes, bit for bit, where that can be told:
// some kernels of a GPU add in the order in which threads arrive, and give other last bits each
// time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/prediction.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Bytes of a storage that outlives the step, outside counted memory.
using KeptBytes = std::map<StorageId, std::vector<std::uint8_t>>;

struct GradientFinding {
  GradientVerdict verdict = GradientVerdict::equal;
  std::optional<std::string> note;
};

// Equal, not comparable, differ.
[[nodiscard]] bool is_worse(GradientVerdict verdict, GradientVerdict other);

class GradientJudge {
 public:
  explicit GradientJudge(const StepTrace& trace);

  // Loss and gradients of an unscheduled step: the first is what all others are compared with, a
  // later one shows what does not repeat itself.
  void add_replay(KeptBytes kept);
  // From now on nothing can be compared.
  void give_up(std::optional<std::string> reason);

  [[nodiscard]] const KeptBytes& reference() const { return reference_; }
  // Of what `kept` holds. `differ`: some bits that repeat themselves are other ones, or what does
  // not repeat itself is far from every unscheduled step. `not_comparable`: only bits that do not
  // repeat themselves are other ones.
  [[nodiscard]] GradientFinding judge(const KeptBytes& kept) const;

 private:
  struct Differences;
  [[nodiscard]] double difference(StorageId id, const std::vector<std::uint8_t>& bytes) const;
  [[nodiscard]] bool is_far(StorageId id, double difference) const;
  [[nodiscard]] std::string name_of(StorageId id) const;
  [[nodiscard]] ScalarType type_of(StorageId id) const;

  const StepTrace& trace_;
  std::map<StorageId, std::size_t> gradient_at_;  // in the trace's gradients
  KeptBytes reference_;
  std::map<StorageId, double> unstable_;  // how far unscheduled steps lie apart
  std::optional<GradientFinding> given_up_;
};

}  // namespace tidemark
