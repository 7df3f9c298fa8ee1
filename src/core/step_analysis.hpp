// Facts about a recorded step under a division into segments: which segment each operator belongs
// to, when each storage's first instance and its recomputed one die. Pure; private to the core.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "tidemark/setting.hpp"
#include "tidemark/trace.hpp"

namespace tidemark {

// Position of an operator in the recorded order, or a value beyond all of them.
using OpPosition = std::int32_t;
inline constexpr OpPosition no_op = -1;
inline constexpr OpPosition never = std::numeric_limits<OpPosition>::max();
inline constexpr std::int32_t no_segment = -1;

struct SegmentFacts {
  Segment segment;
  std::vector<StorageId> inputs;
  // Storages made inside that somebody outside uses: its outputs, and taps.
  std::vector<StorageId> outputs;
  // The backward operators that belong to it; no_op where it has none (nothing needs gradients).
  OpPosition first_backward = no_op;
  OpPosition last_backward = no_op;
  // First and last of those that need what forward saved: they read something other than gradients.
  OpPosition first_saved_read = no_op;
  OpPosition last_saved_read = no_op;
  // The last forward operator that makes (creates or overwrites) a storage that backward needs.
  OpPosition last_needed = no_op;
};

class StepAnalysis {
 public:
  StepAnalysis(const StepTrace& trace, const std::vector<Segment>& segments);

  [[nodiscard]] const std::vector<SegmentFacts>& segments() const { return segments_; }
  // Of a forward operator: where it lies. Of a backward one: whose derivative it is part of.
  [[nodiscard]] std::int32_t segment_of(std::size_t op) const { return segment_of_op_[op]; }
  [[nodiscard]] bool is_static(StorageId id) const { return creator_[index(id)] == no_op; }
  [[nodiscard]] OpPosition creator(StorageId id) const { return creator_[index(id)]; }
  [[nodiscard]] bool is_made_in_forward(StorageId id) const;
  // The segment whose forward makes it; no_segment for everything else.
  [[nodiscard]] std::int32_t home(StorageId id) const;
  [[nodiscard]] bool is_output(StorageId id) const { return is_output_[index(id)]; }
  // The recorded release, or the last use where the trace has none; never: kept.
  [[nodiscard]] OpPosition recorded_death(StorageId id) const { return death_[index(id)]; }
  // Backward operators of its own segment read it, or it was held for them.
  [[nodiscard]] bool is_needed_again(StorageId id) const { return is_needed_again_[index(id)]; }
  // Last use by operators of the given range of recorded positions; no_op: none.
  [[nodiscard]] OpPosition last_use_in(StorageId id, OpPosition first, OpPosition last) const;
  // Until when backward operators of neither its home nor `segment` hold a storage that forward
  // made; no_op: none does. (A stem's ReLU saves its result, which is also the first checkpoint.)
  [[nodiscard]] OpPosition held_elsewhere_until(StorageId id, std::int32_t segment) const;
  // Positions of all operators that read or write it, ascending.
  [[nodiscard]] const std::vector<OpPosition>& uses(StorageId id) const { return uses_[index(id)]; }
  // The last operator of the autograd node that an operator belongs to which the node runs itself:
  // gradients of expanded inputs are summed up by the engine, once the node has returned.
  [[nodiscard]] OpPosition node_return(OpPosition at) const;
  // Floating values derived from a parameter with a gradient.
  [[nodiscard]] bool requires_grad(StorageId id) const { return requires_grad_[index(id)]; }

 private:
  void find_uses();
  void assign_forward_segments(const std::vector<Segment>& segments);
  void assign_backward_segments();
  [[nodiscard]] std::int32_t owner_by_forward_ops(const Op& op) const;
  [[nodiscard]] bool is_of_view_beside(const Op& op, std::int32_t segment) const;
  [[nodiscard]] std::int32_t owner_by_gradients(const Op& op) const;
  [[nodiscard]] std::int32_t owner_by_order(std::size_t op) const;
  [[nodiscard]] std::int32_t owner_by_saved_reads(const Op& op, std::int32_t current) const;
  void find_outputs();
  void find_needs();
  [[nodiscard]] OpPosition node_begin(std::size_t o) const;
  void find_gradient_flow();

  const StepTrace& trace_;
  std::vector<SegmentFacts> segments_;
  std::vector<std::int32_t> segment_of_op_;
  std::vector<OpPosition> creator_;
  std::vector<OpPosition> death_;
  std::vector<std::vector<OpPosition>> uses_;
  std::vector<char> is_output_;
  std::vector<char> is_needed_again_;
  std::vector<char> requires_grad_;
};

// cuBLASLt's work on a GPU.
[[nodiscard]] bool multiplies_with_bias(const Op& op);

// The element type of each storage as the calls see it; absent where no call shows it.
[[nodiscard]] std::vector<std::optional<ScalarType>> storage_types(const StepTrace& trace);

}  // namespace tidemark
