// The tensors that a segment's checkpoint is given. DeepSpeed moves tensors, not storages: it keeps
// each one's own elements and empties the caller's tensor, and where that is a view of another
// tensor, autograd holds the other one's bytes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "step_analysis.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

struct HandedInput {
  StorageId storage = no_storage;
  ScalarType type = ScalarType::float32;
  std::int64_t elements = 0;
  Bytes bytes = 0;   // of its elements; more than its extent where they overlap
  Bytes offset = 0;  // of its first element in the storage
  Bytes extent = 0;  // from its first element to its last one, both included
  bool is_view = false;
  bool is_contiguous = true;
  bool is_dense = true;  // each byte of its extent belongs to one element, in whatever order
  bool is_whole = true;  // and its extent is the storage
  bool has_zero_stride = false;
  // As it was handed over; absent where the trace does not tell.
  std::optional<TensorView> view;

  [[nodiscard]] bool overlaps() const { return bytes > extent; }
};

class HandedInputs {
 public:
  HandedInputs(const StepTrace& trace, const StepAnalysis& analysis);

  // In the order of the segment's inputs, then views of parameters and buffers. A storage of whose
  // tensors the trace does not tell is one tensor over all of it.
  [[nodiscard]] std::vector<HandedInput> of(std::size_t segment) const;

 private:
  [[nodiscard]] std::vector<HandedInput> known(std::size_t segment) const;
  [[nodiscard]] HandedInput assumed(StorageId id) const;

  const StepTrace& trace_;
  const StepAnalysis& analysis_;
  std::vector<std::optional<ScalarType>> types_;
  std::unordered_map<std::string, std::size_t> module_at_;
};

}  // namespace tidemark
