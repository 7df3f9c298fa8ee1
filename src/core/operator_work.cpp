// Floating-point operations and bytes of a call. The formulas need the call's tensors; without a
// call the operator's storages give the bytes, and nothing computes.
#include <algorithm>
#include <array>
#include <string_view>

#include "tidemark/time_model.hpp"

namespace tidemark {

namespace {

double elements(const TensorView& view) {
  double count = 1;
  for (const std::int64_t size : view.sizes) count *= static_cast<double>(size);
  return count;
}

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
    if (const TensorView* first = first_tensor()) work.dtype = first->dtype;
    if (const auto operations = matmul_operations()) {
      work.work = Work::matmul;
      work.operations = *operations;
    } else if (const auto convolved = convolution_operations()) {
      work.work = Work::convolution;
      work.operations = *convolved;
    } else if (const auto attended = attention_operations()) {
      work.work = Work::attention;
      work.operations = *attended;
    }
    return work;
  }

 private:
  [[nodiscard]] const TensorView* tensor(std::size_t argument) const {
    if (argument >= call_.arguments.size()) return nullptr;
    return std::get_if<TensorView>(&call_.arguments[argument].value);
  }

  [[nodiscard]] const TensorView* first_tensor() const {
    for (std::size_t a = 0; a < call_.arguments.size(); ++a) {
      if (const TensorView* view = tensor(a)) return view;
    }
    return nullptr;
  }

  [[nodiscard]] bool flag(std::size_t argument) const {
    if (argument >= call_.arguments.size()) return false;
    const bool* value = std::get_if<bool>(&call_.arguments[argument].value);
    return value != nullptr && *value;
  }

  // mm and its relatives: rows x inner by inner x columns, for each matrix of a batch.
  [[nodiscard]] std::optional<double> matmul_operations() const {
    struct Product {
      std::string_view name;
      std::size_t left;
      std::size_t right;
    };
    static constexpr std::array<Product, 8> products{{{"aten::mm", 0, 1},
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
      return 2 * elements(*input) * size_from_end(*weight, 2);
    }
    for (const Product& product : products) {
      if (op_.name != product.name) continue;
      const TensorView* left = tensor(product.left);
      const TensorView* right = tensor(product.right);
      if (left == nullptr || right == nullptr) return std::nullopt;
      return 2 * elements(*left) * size_from_end(*right, 1);
    }
    return std::nullopt;
  }

  // Each output element takes one multiplication and addition per weight of its channel; each of
  // the two gradients costs as much as the convolution.
  [[nodiscard]] std::optional<double> convolution_operations() const {
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
      const TensorView* scattered = transposes ? tensor(0) : first_result();
      return one_convolution(scattered, weight);
    }
    if (!is_backward) return std::nullopt;
    const bool transposes = flag(7);
    const auto once = one_convolution(transposes ? tensor(1) : tensor(0), tensor(2));
    return once ? std::optional(*once * wanted_gradients()) : std::nullopt;
  }

  [[nodiscard]] static std::optional<double> one_convolution(const TensorView* positions,
                                                             const TensorView* weight) {
    if (positions == nullptr || weight == nullptr || weight->sizes.empty()) return std::nullopt;
    const auto channels = static_cast<double>(std::max<std::int64_t>(1, weight->sizes.front()));
    return 2 * elements(*positions) * elements(*weight) / channels;
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
  [[nodiscard]] std::optional<double> attention_operations() const {
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
      const double pairs = elements(*query) / size_from_end(*query, 1) * size_from_end(*key, 2);
      const double query_width = size_from_end(*query, 1);
      const double value_width = size_from_end(*value, 1);
      const double products =
          attention.is_backward ? 3 * query_width + 2 * value_width : query_width + value_width;
      return 2 * pairs * products * (flag(attention.is_causal) ? 0.5 : 1);
    }
    return std::nullopt;
  }

  [[nodiscard]] const TensorView* first_result() const {
    for (const CallValue& result : call_.results) {
      if (const auto* view = std::get_if<TensorView>(&result.value)) return view;
    }
    return nullptr;
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
  return {.work = Work::memory,
          .dtype = ScalarType::float32,
          .operations = 0,
          .bytes = storage_bytes(trace, op)};
}

}  // namespace tidemark
