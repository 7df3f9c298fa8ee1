// Floating-point operations and bytes of a call. The formulas need the call's tensors; without a
// call the operator's storages give the bytes, and nothing computes.
#include <algorithm>
#include <array>
#include <string_view>

#include "call_tensors.hpp"
#include "element_work.hpp"
#include "tidemark/time_model.hpp"

namespace tidemark {

namespace {

// What is really touched: expanded dimensions lie on the same bytes.
double touched_bytes(const TensorView& view) {
  double count = 1;
  for (std::size_t d = 0; d < view.sizes.size(); ++d) {
    if (d >= view.strides.size() || view.strides[d] != 0)
      count *= static_cast<double>(view.sizes[d]);
  }
  return count * static_cast<double>(element_bytes(view.dtype));
}

double size_from_end(const TensorView& view, std::size_t from_end) {
  if (view.sizes.size() < from_end) return 1;
  return static_cast<double>(view.sizes[view.sizes.size() - from_end]);
}

bool contains(const std::vector<StorageId>& ids, StorageId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

class CallWork {
 public:
  CallWork(const Op& op, const Call& call) : op_(op), call_(call) {}

  OpWork work() {
    OpWork work;
    work.bytes = bytes();
    if (const TensorView* first = first_tensor_argument(call_)) work.dtype = first->dtype;
    for (const auto& product : {matmul(), convolution(), attention()}) {
      if (!product) continue;
      work.parts = {*product};
      return work;
    }
    work.parts = element_work(op_, call_);
    return work;
  }

 private:
  using Product = std::optional<WorkPart>;

  [[nodiscard]] const TensorView* tensor(std::size_t argument) const {
    return tensor_argument(call_, argument);
  }

  [[nodiscard]] bool flag(std::size_t argument) const {
    if (argument >= call_.arguments.size()) return false;
    const bool* value = std::get_if<bool>(&call_.arguments[argument].value);
    return value != nullptr && *value;
  }

  // `left`: rows by inner, once or in a batch.
  static WorkPart product_of(const TensorView& left, double rows, double columns) {
    return {.work = Work::matmul,
            .amount = 2 * elements(left) * columns,
            .width = std::min({rows, size_from_end(left, 1), columns})};
  }

  // mm and its relatives: rows x inner by inner x columns, for each matrix of a batch.
  [[nodiscard]] Product matmul() const {
    struct Operands {
      std::string_view name;
      std::size_t left;
      std::size_t right;
    };
    static constexpr std::array<Operands, 8> products{{{"aten::mm", 0, 1},
                                                       {"aten::addmm", 1, 2},
                                                       {"aten::addmm_", 1, 2},
                                                       {"aten::bmm", 0, 1},
                                                       {"aten::baddbmm", 1, 2},
                                                       {"aten::baddbmm_", 1, 2},
                                                       {"aten::_addmm_activation", 1, 2},
                                                       {"aten::_scaled_mm", 0, 1}}};
    if (op_.name == "aten::linear" || op_.name == "aten::mkldnn_linear") {
      const TensorView* input = tensor(0);
      const TensorView* weight = tensor(1);
      if (input == nullptr || weight == nullptr) return std::nullopt;
      const double rows = elements(*input) / std::max(1.0, size_from_end(*input, 1));
      return product_of(*input, rows, size_from_end(*weight, 2));
    }
    for (const Operands& product : products) {
      if (op_.name != product.name) continue;
      const TensorView* left = tensor(product.left);
      const TensorView* right = tensor(product.right);
      if (left == nullptr || right == nullptr) return std::nullopt;
      return product_of(*left, size_from_end(*left, 2), size_from_end(*right, 1));
    }
    return std::nullopt;
  }

  // Each output element takes one multiplication and addition per weight of its channel; each of
  // the two gradients costs as much as the convolution.
  [[nodiscard]] Product convolution() const {
    const std::string_view name = op_.name;
    const bool is_forward =
        name == "aten::convolution" || name == "aten::_convolution" ||
        name == "aten::cudnn_convolution" || name == "aten::mkldnn_convolution" ||
        name == "aten::convolution_overrideable" || name == "aten::_slow_conv2d_forward" ||
        name == "aten::_conv_depthwise2d" || name == "aten::cudnn_convolution_transpose" ||
        name == "aten::slow_conv_transpose2d";
    const bool is_backward = name == "aten::convolution_backward" ||
                             name == "aten::convolution_backward_overrideable" ||
                             name == "aten::_slow_conv2d_backward";
    if (is_forward) {
      const bool transposes = name.find("transpose") != std::string_view::npos ||
                              (name.ends_with("aten::convolution") && flag(6)) ||
                              (name.ends_with("aten::_convolution") && flag(6));
      const TensorView* weight = tensor(1);
      const TensorView* scattered = transposes ? tensor(0) : first_result(call_);
      return one_convolution(scattered, weight, false);
    }
    if (!is_backward) return std::nullopt;
    const bool transposes = flag(7);
    Product product = one_convolution(transposes ? tensor(1) : tensor(0), tensor(2), true);
    if (product) product->amount *= wanted_gradients();
    return product;
  }

  // As a matrix product: positions by the weights of an output channel by the output channels of a
  // group. The weights' first dimension counts the channels that the positions have.
  [[nodiscard]] Product one_convolution(const TensorView* positions, const TensorView* weight,
                                        bool is_backward) const {
    if (positions == nullptr || weight == nullptr || weight->sizes.size() < 2) return std::nullopt;
    const auto channels = static_cast<double>(std::max<std::int64_t>(1, weight->sizes.front()));
    const double weights = elements(*weight) / channels;
    const bool has_window = weights > static_cast<double>(weight->sizes[1]);
    Work work = has_window ? Work::convolution : Work::pointwise;
    if (is_backward) work = has_window ? Work::convolution_backward : Work::pointwise_backward;
    return WorkPart{
        .work = work,
        .amount = 2 * elements(*positions) * weights,
        .width = std::min({channels / groups(), weights, elements(*positions) / channels})};
  }

  // The last integer argument, in every form that has groups.
  [[nodiscard]] double groups() const {
    double groups = 1;
    for (const CallValue& argument : call_.arguments) {
      if (const auto* number = std::get_if<std::int64_t>(&argument.value)) {
        groups = static_cast<double>(std::max<std::int64_t>(1, *number));
      }
    }
    return groups;
  }

  // Of the input's and the weight's gradient, by output_mask, the last argument.
  [[nodiscard]] double wanted_gradients() const {
    if (call_.arguments.empty()) return 2;
    const auto* mask = std::get_if<CallList>(&call_.arguments.back().value);
    if (mask == nullptr) return 2;
    double wanted = 0;
    for (std::size_t i = 0; i < mask->items.size() && i < 2; ++i) {
      const bool* is_wanted = std::get_if<bool>(&mask->items[i].value);
      wanted += is_wanted == nullptr || *is_wanted ? 1 : 0;
    }
    return wanted;
  }

  // Two matrix products forward, five backward, of every query with every key; half of them under
  // a causal mask.
  [[nodiscard]] Product attention() const {
    struct Attention {
      std::string_view name;
      std::size_t query;  // key and value follow
      std::size_t is_causal;
      bool is_backward;
    };
    static constexpr std::array<Attention, 10> all{{
        {"aten::_scaled_dot_product_flash_attention", 0, 4, false},
        {"aten::_scaled_dot_product_flash_attention_backward", 1, 11, true},
        {"aten::_scaled_dot_product_efficient_attention", 0, 6, false},
        {"aten::_scaled_dot_product_efficient_attention_backward", 1, 11, true},
        {"aten::_scaled_dot_product_cudnn_attention", 0, 6, false},
        {"aten::_scaled_dot_product_cudnn_attention_backward", 1, 14, true},
        {"aten::_scaled_dot_product_flash_attention_for_cpu", 0, 4, false},
        {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", 1, 7, true},
        {"aten::_scaled_dot_product_fused_attention_overrideable", 0, 5, false},
        {"aten::_scaled_dot_product_fused_attention_overrideable_backward", 1, 13, true},
    }};
    for (const Attention& attention : all) {
      if (op_.name != attention.name) continue;
      const TensorView* query = tensor(attention.query);
      const TensorView* key = tensor(attention.query + 1);
      const TensorView* value = tensor(attention.query + 2);
      if (query == nullptr || key == nullptr || value == nullptr) return std::nullopt;
      const double query_width = std::max(1.0, size_from_end(*query, 1));
      const double pairs = elements(*query) / query_width * size_from_end(*key, 2);
      const double value_width = size_from_end(*value, 1);
      const double products =
          attention.is_backward ? 3 * query_width + 2 * value_width : query_width + value_width;
      return WorkPart{.work = attention.is_backward ? Work::attention_backward : Work::attention,
                      .amount = 2 * pairs * products * (flag(attention.is_causal) ? 0.5 : 1),
                      .width = query_width};
    }
    return std::nullopt;
  }

  // Reading a table at some places reads as much as it gives.
  [[nodiscard]] bool gathers() const {
    static constexpr std::array<std::string_view, 7> names{
        "aten::embedding", "aten::index_select", "aten::index",        "aten::gather",
        "aten::take",      "aten::slice_copy",   "aten::_unsafe_index"};
    return std::find(names.begin(), names.end(), op_.name) != names.end();
  }

  [[nodiscard]] double bytes() {
    made_ = 0;
    for (const CallValue& result : call_.results) add_results(result);
    double total = made_;
    for (const CallValue& argument : call_.arguments) total += argument_bytes(argument);
    return total;
  }

  void add_results(const CallValue& value) {
    if (const auto* list = std::get_if<CallList>(&value.value)) {
      for (const CallValue& item : list->items) add_results(item);
    } else if (const auto* view = std::get_if<TensorView>(&value.value)) {
      if (contains(op_.creates, view->storage)) made_ += touched_bytes(*view);
    }
  }

  [[nodiscard]] double argument_bytes(const CallValue& value) const {
    if (const auto* list = std::get_if<CallList>(&value.value)) {
      double total = 0;
      for (const CallValue& item : list->items) total += argument_bytes(item);
      return total;
    }
    const auto* view = std::get_if<TensorView>(&value.value);
    if (view == nullptr) return 0;
    const double size = touched_bytes(*view);
    const double read = contains(op_.reads, view->storage) ? size : 0;
    const double written = contains(op_.writes, view->storage) ? size : 0;
    return (gathers() ? std::min(read, made_) : read) + written;
  }

  const Op& op_;
  const Call& call_;
  double made_ = 0;  // bytes of the created results
};

double storage_bytes(const StepTrace& trace, const Op& op) {
  double total = 0;
  for (const auto* ids : {&op.reads, &op.writes, &op.creates}) {
    for (const StorageId id : *ids) total += static_cast<double>(trace.storages[index(id)].bytes);
  }
  return total;
}

}  // namespace

OpWork work_of(const StepTrace& trace, const Op& op) {
  if (op.call) return CallWork(op, *op.call).work();
  return {.dtype = ScalarType::float32, .parts = {}, .bytes = storage_bytes(trace, op)};
}

}  // namespace tidemark
