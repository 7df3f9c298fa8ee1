// Which block of the model a step's operators and storages belong to; for pictures and
// explanations.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/report.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

class StepBlocks {
 public:
  // The blocks that the sweep's rows name, else those that the step itself shows.
  StepBlocks(const StepTrace& trace, const Sweep& sweep);

  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  // Positions in names(); absent: outside the blocks. A backward operator belongs to the block of
  // the forward operators that it differentiates.
  [[nodiscard]] std::optional<std::size_t> of(OpId op) const { return ops_[index(op)]; }
  // The block of the operator that makes the storage.
  [[nodiscard]] std::optional<std::size_t> maker(StorageId storage) const;
  // The first block that reads a storage made elsewhere: the one it is a checkpoint of.
  [[nodiscard]] std::optional<std::size_t> reader(StorageId storage) const;

 private:
  void find_names(const StepTrace& trace, const Sweep& sweep);
  void place_forward(const StepTrace& trace);
  void place_others(const StepTrace& trace);
  void place_storages(const StepTrace& trace);

  std::vector<std::string> names_;
  std::vector<std::optional<std::size_t>> ops_;
  std::vector<std::optional<std::size_t>> makers_;
  std::vector<std::optional<std::size_t>> readers_;
};

// "transformer.h.3" and "transformer.h.4" become "h.3" and "h.4": what all names share in front is
// left out, but for the last part.
[[nodiscard]] std::vector<std::string> short_names(const std::vector<std::string>& names);

}  // namespace tidemark
