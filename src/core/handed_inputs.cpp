#include "handed_inputs.hpp"

#include <algorithm>
#include <utility>

namespace tidemark {

namespace {

const TensorView* view_of(const std::vector<CallValue>& values, StorageId id) {
  for (const CallValue& value : values) {
    const auto* view = std::get_if<TensorView>(&value.value);
    if (view != nullptr && view->storage == id) return view;
  }
  return nullptr;
}

// For traces that do not tell what modules are given: a linear layer with a bias multiplies rows
// and gives a view of the product (without a bias it gives no view).
bool is_view_of_product(const StepTrace& trace, const StepAnalysis& analysis, StorageId id) {
  if (analysis.is_static(id)) return false;
  const Op& maker = trace.ops[static_cast<std::size_t>(analysis.creator(id))];
  if (!multiplies_with_bias(maker)) return false;
  const TensorView* product = maker.call ? view_of(maker.call->results, id) : nullptr;
  if (product == nullptr || product->sizes.size() != 2) return false;
  return std::any_of(analysis.uses(id).begin(), analysis.uses(id).end(), [&](OpPosition use) {
    const Op& reader = trace.ops[static_cast<std::size_t>(use)];
    const TensorView* seen = reader.call ? view_of(reader.call->arguments, id) : nullptr;
    return seen != nullptr && seen->sizes.size() > 2 && seen->sizes.back() == product->sizes.back();
  });
}

// Dimensions of more than one element, those with the largest strides first.
using Dimensions = std::vector<std::pair<std::int64_t, std::int64_t>>;  // (stride, size)

Dimensions dimensions(const TensorView& view) {
  Dimensions found;
  for (std::size_t d = 0; d < view.sizes.size(); ++d) {
    if (view.sizes[d] != 1) found.emplace_back(view.strides[d], view.sizes[d]);
  }
  return found;
}

// Each dimension's stride is what lies behind it.
bool is_packed(const Dimensions& dims) {
  std::int64_t behind = 1;
  for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) {
    if (dim->first != behind) return false;
    behind *= dim->second;
  }
  return true;
}

HandedInput described(const StepTrace& trace, const HandedTensor& tensor) {
  const TensorView& view = tensor.view;
  HandedInput input{
      .storage = view.storage, .type = view.dtype, .is_view = tensor.is_view, .view = view};
  const Bytes item = element_bytes(view.dtype);
  Dimensions dims = dimensions(view);
  input.elements = 1;
  std::int64_t last = 0;
  for (const auto& [stride, size] : dims) {
    input.elements *= size;
    last += stride * (size - 1);
    input.has_zero_stride = input.has_zero_stride || (stride == 0 && size > 1);
  }
  input.bytes = input.elements * item;
  input.offset = view.offset * item;
  input.extent = input.elements == 0 ? 0 : (last + 1) * item;
  input.is_contiguous = is_packed(dims);
  std::stable_sort(dims.begin(), dims.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  input.is_dense = is_packed(dims);
  input.is_whole = input.is_dense && input.extent == trace.storages[index(view.storage)].bytes;
  return input;
}

}  // namespace

HandedInputs::HandedInputs(const StepTrace& trace, const StepAnalysis& analysis)
    : trace_(trace), analysis_(analysis), types_(storage_types(trace)) {
  for (std::size_t m = 0; m < trace.modules.size(); ++m) {
    module_at_.emplace(trace.modules[m].path, m);
  }
}

std::vector<HandedInput> HandedInputs::known(std::size_t segment) const {
  std::vector<HandedInput> inputs;
  for (const std::string& block : analysis_.segments()[segment].segment.blocks) {
    const auto module = module_at_.find(block);
    if (module == module_at_.end()) continue;
    for (const HandedTensor& tensor : trace_.modules[module->second].inputs) {
      const bool is_listed =
          std::any_of(inputs.begin(), inputs.end(),
                      [&](const HandedInput& input) { return *input.view == tensor.view; });
      if (!is_listed) inputs.push_back(described(trace_, tensor));
    }
  }
  return inputs;
}

HandedInput HandedInputs::assumed(StorageId id) const {
  HandedInput input{
      .storage = id, .type = types_[index(id)].value_or(ScalarType::float32), .view = {}};
  input.bytes = trace_.storages[index(id)].bytes;
  input.extent = input.bytes;
  input.elements = input.bytes / element_bytes(input.type);
  input.is_view = is_view_of_product(trace_, analysis_, id);
  return input;
}

std::vector<HandedInput> HandedInputs::of(std::size_t segment) const {
  const SegmentFacts& facts = analysis_.segments()[segment];
  const std::vector<HandedInput> all = known(segment);
  std::vector<HandedInput> inputs;
  for (const StorageId id : facts.inputs) {
    const std::size_t before = inputs.size();
    std::copy_if(all.begin(), all.end(), std::back_inserter(inputs),
                 [&](const HandedInput& input) { return input.storage == id; });
    if (inputs.size() == before) inputs.push_back(assumed(id));
  }
  const auto first = static_cast<OpPosition>(facts.segment.first);
  const auto last = static_cast<OpPosition>(facts.segment.last);
  for (const HandedInput& input : all) {
    const Role role = trace_.storages[index(input.storage)].role;
    const bool belongs = role == Role::parameter || role == Role::buffer;
    const bool is_read = analysis_.last_use_in(input.storage, first, last) != no_op;
    if (belongs && input.is_view && is_read) inputs.push_back(input);
  }
  return inputs;
}

}  // namespace tidemark
