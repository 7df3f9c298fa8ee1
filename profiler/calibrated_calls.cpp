#include "calibrated_calls.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <tuple>

namespace tidemark {

namespace {

using Tensors = std::vector<at::Tensor>;

double operations(std::initializer_list<std::int64_t> factors) {
  double product = 2;
  for (const std::int64_t factor : factors) product *= static_cast<double>(factor);
  return product;
}

// n by width by n: the narrowest side is the inner one, as in the products of attention.
CalibratedCurve matmul(std::int64_t width) {
  constexpr std::int64_t largest = 8192;
  CalibratedCurve curve{.work = Work::matmul, .width = static_cast<double>(width), .sizes = {}};
  for (std::int64_t n = width; n <= largest; n *= 2) {
    curve.sizes.push_back({operations({n, width, n}),
                           {{n, width}, {width, n}},
                           [](const Tensors& t) { return [t] { return at::mm(t[0], t[1]); }; },
                           static_cast<double>(n * n)});
  }
  return curve;
}

// Images of a growing side, then more of them.
struct Images {
  std::int64_t count;
  std::int64_t side;
};
constexpr std::array<Images, 9> image_sizes{
    {{2, 4}, {2, 8}, {2, 16}, {2, 32}, {2, 64}, {8, 64}, {32, 64}, {128, 64}, {512, 64}}};

struct Filter {
  std::int64_t inputs;   // channels
  std::int64_t outputs;  // channels
  std::int64_t groups;
  std::int64_t window;
};

CalibratedCall bind_convolution(const Filter& filter, const Tensors& t) {
  return [t, groups = filter.groups, padding = filter.window / 2] {
    return at::convolution(t[0], t[1], {}, {1, 1}, {padding, padding}, {1, 1}, false, {0, 0},
                           groups);
  };
}

CalibratedCall bind_convolution_backward(const Filter& filter, const Tensors& t) {
  return [t, groups = filter.groups, padding = filter.window / 2] {
    return std::get<0>(at::convolution_backward(t[2], t[0], t[1], {}, {1, 1}, {padding, padding},
                                                {1, 1}, false, {0, 0}, groups,
                                                {true, true, false}));
  };
}

Work work_of(const Filter& filter, bool is_backward) {
  if (filter.window == 1) return is_backward ? Work::pointwise_backward : Work::pointwise;
  return is_backward ? Work::convolution_backward : Work::convolution;
}

CalibratedCurve convolution(const Filter& filter, bool is_backward) {
  const auto& [inputs, outputs, groups, window] = filter;
  const std::int64_t channels = inputs / groups;  // that one output reads
  CalibratedCurve curve{
      .work = work_of(filter, is_backward), .width = static_cast<double>(channels), .sizes = {}};
  for (const auto& [count, side] : image_sizes) {
    const std::vector<std::int64_t> read{count, inputs, side, side};
    const std::vector<std::int64_t> made{count, outputs, side, side};
    const std::vector<std::int64_t> weight{outputs, channels, window, window};
    const double once = operations({count, outputs, channels, side, side, window, window});
    if (is_backward) {
      curve.sizes.push_back({2 * once, {read, weight, made}, [filter](const Tensors& t) {
                               return bind_convolution_backward(filter, t);
                             }});
    } else {
      curve.sizes.push_back({once,
                             {read, weight},
                             [filter](const Tensors& t) { return bind_convolution(filter, t); },
                             static_cast<double>(c10::multiply_integers(made))});
    }
  }
  return curve;
}

CalibratedCall bind_attention(const Tensors& t) {
  return [t] { return at::scaled_dot_product_attention(t[0], t[1], t[2]); };
}

// Which kernel goes backward, and what it needs, is the forward call's choice: autograd knows.
CalibratedCall bind_attention_backward(const Tensors& t) {
  const at::AutoGradMode with_gradients(true);
  Tensors inputs;
  for (std::size_t i = 0; i < 3; ++i) inputs.push_back(t[i].detach().requires_grad_());
  const at::Tensor output = at::scaled_dot_product_attention(inputs[0], inputs[1], inputs[2]);
  return [inputs, output, gradient = t[3]] {
    return torch::autograd::grad({output}, inputs, {gradient}, /*retain_graph=*/true).front();
  };
}

CalibratedCurve attention(std::int64_t width, bool is_backward) {
  constexpr std::int64_t batch = 2;
  constexpr std::int64_t heads = 8;
  constexpr std::int64_t shortest = 16;
  constexpr std::int64_t longest = 8192;
  CalibratedCurve curve{.work = is_backward ? Work::attention_backward : Work::attention,
                        .width = static_cast<double>(width),
                        .sizes = {}};
  for (std::int64_t length = shortest; length <= longest; length *= 2) {
    const std::vector<std::int64_t> sizes{batch, heads, length, width};
    const double product = operations({batch, heads, length, length, width});
    if (is_backward) {
      curve.sizes.push_back({5 * product, {4, sizes}, bind_attention_backward});
    } else {
      curve.sizes.push_back({2 * product, {3, sizes}, bind_attention});
    }
  }
  return curve;
}

// Reads twice and writes once.
CalibratedCurve memory(std::int64_t element_bytes) {
  CalibratedCurve curve{.work = Work::memory, .width = 0, .sizes = {}};
  for (std::int64_t n = 256; n <= std::int64_t{1} << 28; n *= 4) {
    curve.sizes.push_back({static_cast<double>(3 * n * element_bytes),
                           {{n}, {n}},
                           [](const Tensors& t) { return [t] { return at::add(t[0], t[1]); }; }});
  }
  return curve;
}

constexpr std::int64_t row = 256;

struct ElementRow {
  Work work;
  std::vector<std::int64_t> (*operand)(std::int64_t rows);
  CalibratedCall (*bind)(const Tensors& t);
};

std::vector<std::int64_t> matrix(std::int64_t rows) { return {rows, row}; }
std::vector<std::int64_t> images(std::int64_t rows) { return {4, 16, 2, rows * row / 128}; }
std::vector<std::int64_t> small_images(std::int64_t rows) { return {1, rows, 16, 16}; }

CalibratedCall draw(const Tensors& t) {
  return [x = t[0]] { return at::empty_like(x).bernoulli_(0.9); };
}
CalibratedCall exponential(const Tensors& t) {
  return [x = t[0]] { return at::exp(x); };
}
CalibratedCall tanh(const Tensors& t) {
  return [x = t[0]] { return at::tanh(x); };
}
// The later half of each row is masked: real masks have runs too, which a processor foresees.
CalibratedCall mask(const Tensors& t) {
  const at::Tensor half = at::arange(row, t[0].options()).lt(row / 2);
  return [x = t[0], mask = half.expand_as(t[0]).contiguous(),
          zero = at::zeros({}, t[0].options())] { return at::where(mask, x, zero); };
}
CalibratedCall batch_norm(const Tensors& t) {
  const at::Tensor ones = at::ones({t[0].size(1)}, t[0].options());
  return [x = t[0], ones] {
    return std::get<0>(at::native_batch_norm(x, ones, ones, {}, {}, true, 0.1, 1e-5));
  };
}
CalibratedCall layer_norm(const Tensors& t) {
  const at::Tensor ones = at::ones({row}, t[0].options());
  return
      [x = t[0], ones] { return std::get<0>(at::native_layer_norm(x, {row}, ones, ones, 1e-5)); };
}
CalibratedCall pooling(const Tensors& t) {
  return [x = t[0]] { return std::get<0>(at::max_pool2d_with_indices(x, {2, 2})); };
}

CalibratedCurve elements(const ElementRow& kind) {
  CalibratedCurve curve{.work = kind.work, .width = 0, .sizes = {}};
  for (std::int64_t rows = 1; rows <= std::int64_t{1} << 18; rows *= 8) {
    curve.sizes.push_back({static_cast<double>(rows * row), {kind.operand(rows)}, kind.bind});
  }
  return curve;
}

}  // namespace

std::vector<CalibratedCurve> calibrated_curves(std::int64_t element_bytes) {
  static constexpr std::array<ElementRow, 7> element_kinds{
      {{Work::random, matrix, draw},
       {Work::exponential, matrix, exponential},
       {Work::tanh, matrix, tanh},
       {Work::indexed, matrix, mask},
       {Work::batch_norm, images, batch_norm},
       {Work::layer_norm, matrix, layer_norm},
       {Work::pooling, small_images, pooling}}};
  std::vector<CalibratedCurve> curves;
  for (const std::int64_t width : {8, 32, 128, 512, 4096}) curves.push_back(matmul(width));
  for (const bool is_backward : {false, true}) {
    // Each channel for itself; all with all; and without a window, as in and out of a bottleneck.
    curves.push_back(convolution({64, 64, 64, 3}, is_backward));
    for (const std::int64_t channels : {8, 32, 128, 512}) {
      curves.push_back(convolution({channels, channels, 1, 3}, is_backward));
      curves.push_back(convolution({channels, 4 * channels, 1, 1}, is_backward));
    }
    for (const std::int64_t width : {32, 128}) curves.push_back(attention(width, is_backward));
  }
  curves.push_back(memory(element_bytes));
  for (const ElementRow& kind : element_kinds) curves.push_back(elements(kind));
  return curves;
}

}  // namespace tidemark
