#include "element_work.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "call_tensors.hpp"

namespace tidemark {

namespace {

// Whose elements are worked on: the first result's, or those of the argument of that number.
constexpr std::size_t the_result = 99;

struct ElementOperator {
  std::string_view name;  // without the underscore of the form in place
  Work work;
  std::size_t counted = the_result;
};

constexpr std::array<ElementOperator, 66> element_operators{{
    {"aten::exp", Work::exponential},
    {"aten::exp2", Work::exponential},
    {"aten::expm1", Work::exponential},
    {"aten::log", Work::exponential},
    {"aten::log1p", Work::exponential},
    {"aten::log2", Work::exponential},
    {"aten::erf", Work::exponential},
    {"aten::sigmoid", Work::exponential},
    {"aten::log_sigmoid_forward", Work::exponential},
    {"aten::log_sigmoid_backward", Work::exponential},
    {"aten::silu", Work::exponential},
    {"aten::silu_backward", Work::exponential},
    {"aten::elu", Work::exponential},
    {"aten::elu_backward", Work::exponential},
    {"aten::softplus", Work::exponential},
    {"aten::softplus_backward", Work::exponential},
    {"aten::glu", Work::exponential},
    {"aten::glu_backward", Work::exponential},
    {"aten::logsumexp", Work::exponential, 0},
    {"aten::_softmax", Work::exponential},
    {"aten::_safe_softmax", Work::exponential},
    {"aten::_masked_softmax", Work::exponential},
    {"aten::_log_softmax", Work::exponential},
    {"aten::_log_softmax_backward_data", Work::exponential},
    {"aten::binary_cross_entropy_with_logits", Work::exponential, 0},
    {"aten::gelu", Work::exponential},
    {"aten::gelu_backward", Work::exponential},
    {"aten::tanh", Work::tanh},
    {"aten::mish", Work::tanh},
    {"aten::mish_backward", Work::tanh},
    {"aten::where", Work::indexed},
    {"aten::masked_fill", Work::indexed},
    {"aten::masked_select", Work::indexed, 0},
    {"aten::masked_scatter", Work::indexed},
    {"aten::eq", Work::indexed},
    {"aten::ne", Work::indexed},
    {"aten::lt", Work::indexed},
    {"aten::le", Work::indexed},
    {"aten::gt", Work::indexed},
    {"aten::ge", Work::indexed},
    {"aten::all", Work::indexed, 0},
    {"aten::any", Work::indexed, 0},
    {"aten::tril", Work::indexed},
    {"aten::triu", Work::indexed},
    {"aten::cumsum", Work::indexed},
    {"aten::index", Work::indexed},
    {"aten::_unsafe_index", Work::indexed},
    {"aten::gather", Work::indexed},
    {"aten::take", Work::indexed},
    {"aten::index_put", Work::indexed, 2},
    {"aten::_index_put_impl", Work::indexed, 2},
    {"aten::_unsafe_index_put", Work::indexed, 2},
    {"aten::index_add", Work::indexed, 3},
    {"aten::scatter", Work::indexed, 2},
    {"aten::scatter_add", Work::indexed, 2},
    {"aten::embedding_dense_backward", Work::indexed, 0},
    {"aten::upsample_nearest2d", Work::indexed},
    {"aten::upsample_nearest2d_backward", Work::indexed, 0},
    {"aten::upsample_bilinear2d", Work::indexed},
    {"aten::upsample_bilinear2d_backward", Work::indexed, 0},
    {"aten::native_batch_norm", Work::batch_norm, 0},
    {"aten::_native_batch_norm_legit", Work::batch_norm, 0},
    {"aten::_batch_norm_with_update", Work::batch_norm, 0},
    {"aten::cudnn_batch_norm", Work::batch_norm, 0},
    {"aten::native_layer_norm", Work::layer_norm, 0},
    {"aten::native_layer_norm_backward", Work::layer_norm, 0},
}};

std::string_view without_underscore(std::string_view name) {
  return name.ends_with('_') ? name.substr(0, name.size() - 1) : name;
}

// gelu's approximation: an error function, or a tanh.
bool asks_for_tanh(const Call& call) {
  return std::any_of(call.arguments.begin(), call.arguments.end(), [](const CallValue& argument) {
    const auto* text = std::get_if<std::string>(&argument.value);
    return text != nullptr && *text == "tanh";
  });
}

std::vector<WorkPart> part(Work work, double amount) {
  return {{.work = work, .amount = amount, .width = 0}};
}

std::optional<std::vector<WorkPart>> listed_work(std::string_view name, const Call& call) {
  const auto listed = std::find_if(element_operators.begin(), element_operators.end(),
                                   [&](const ElementOperator& row) { return row.name == name; });
  if (listed == element_operators.end()) return std::nullopt;
  const TensorView* counted =
      listed->counted == the_result ? first_result(call) : tensor_argument(call, listed->counted);
  if (counted == nullptr) return std::vector<WorkPart>{};
  const double count = elements(*counted);
  const bool is_gelu = name.starts_with("aten::gelu");
  std::vector<WorkPart> parts =
      part(is_gelu && asks_for_tanh(call) ? Work::tanh : listed->work, count);
  // Looks for rows that are masked throughout: compares, reduces, and chooses.
  if (name == "aten::_safe_softmax") {
    parts.insert(parts.end(), 3, {.work = Work::indexed, .amount = count, .width = 0});
  }
  return parts;
}

// Each output is made from a window of the input.
std::optional<std::vector<WorkPart>> pooling_work(std::string_view name, const Call& call) {
  const TensorView* made = first_result(call);
  if (made == nullptr) return std::nullopt;
  if (name == "aten::_adaptive_avg_pool2d" && tensor_argument(call, 0) != nullptr) {
    return part(Work::pooling, elements(*tensor_argument(call, 0)));
  }
  const bool pools = name == "aten::max_pool2d_with_indices" || name == "aten::avg_pool2d";
  if (!pools || call.arguments.size() < 2) return std::nullopt;
  const auto* sides = std::get_if<CallList>(&call.arguments[1].value);
  if (sides == nullptr) return std::nullopt;
  double window = 1;
  for (const CallValue& item : sides->items) {
    const auto* side = std::get_if<std::int64_t>(&item.value);
    if (side != nullptr) window *= static_cast<double>(*side);
  }
  // A single side is that of a square.
  if (sides->items.size() == 1) window *= window;
  return part(Work::pooling, elements(*made) * window);
}

// The dimension along which neighbours lie in memory; absent: there is only one element.
std::optional<std::size_t> fastest_dimension(const TensorView& view) {
  std::optional<std::size_t> fastest;
  for (std::size_t d = 0; d < view.sizes.size() && d < view.strides.size(); ++d) {
    if (view.sizes[d] < 2 || view.strides[d] == 0) continue;
    if (!fastest || view.strides[d] < view.strides[*fastest]) fastest = d;
  }
  return fastest;
}

// An operand whose neighbours are not neighbours in the result is read one by one.
bool transposes(const Call& call) {
  const TensorView* made = first_result(call);
  if (made == nullptr) return false;
  const auto fastest = fastest_dimension(*made);
  return fastest &&
         std::any_of(call.arguments.begin(), call.arguments.end(), [&](const CallValue& argument) {
           const auto* view = std::get_if<TensorView>(&argument.value);
           return view != nullptr && view->sizes == made->sizes &&
                  fastest_dimension(*view) != fastest;
         });
}

}  // namespace

std::vector<WorkPart> element_work(const Op& op, const Call& call) {
  const std::string_view name = without_underscore(op.name);
  if (auto listed = listed_work(name, call)) return *listed;
  if (auto pooled = pooling_work(name, call)) return *pooled;
  const TensorView* made = first_result(call);
  if (op.flags.random && made != nullptr) return part(Work::random, elements(*made));
  if (transposes(call)) return part(Work::indexed, elements(*made));
  return {};
}

}  // namespace tidemark
