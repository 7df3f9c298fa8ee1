// Training steps of well-known shapes, of any size, for planners and benchmarks.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tape.hpp"

namespace tidemark::test {

// Pre-norm blocks with fused attention; half precision, 4,096 tokens.
inline StepTrace transformer_step(int blocks, Bytes width = 1024, Bytes tokens = 4096) {
  Tape tape;
  const Bytes hidden = tokens * width * 2;
  const auto w = static_cast<double>(width);
  const auto t = static_cast<double>(tokens);
  const Bytes vocabulary = 8 * width;
  using Saves = Tape::Saves;
  StorageId x = tape.add({.name = "embedding",
                          .module = "embed",
                          .inputs = {tape.input(8 * tokens)},
                          .bytes = hidden,
                          .weight_bytes = vocabulary * width * 2});
  for (int b = 0; b < blocks; ++b) {
    const std::string at = "blocks." + std::to_string(b);
    const auto linear = [&](StorageId from, Bytes in, Bytes out, const std::string& name) {
      return tape.add({.name = "linear",
                       .module = at + "." + name,
                       .inputs = {from},
                       .bytes = tokens * out * 2,
                       .operations = 2 * t * static_cast<double>(in * out),
                       .weight_bytes = in * out * 2});
    };
    const auto norm = [&](StorageId from, const std::string& name) {
      return tape.add({.name = "layer_norm",
                       .module = at + "." + name,
                       .inputs = {from},
                       .bytes = hidden,
                       .further = {4 * tokens, 4 * tokens},
                       .weight_bytes = 4 * width});
    };
    const StorageId qkv = linear(norm(x, "norm1"), width, 3 * width, "attention.in");
    const StorageId heads = tape.add({.name = "attention",
                                      .module = at + ".attention",
                                      .inputs = {qkv},
                                      .bytes = hidden,
                                      .further = {tokens * 4 * width / 64},
                                      .saves = Saves::both,
                                      .operations = 4 * t * 1024 * w});
    const StorageId out = linear(heads, width, width, "attention.out");
    x = tape.add({.name = "add",
                  .module = at,
                  .inputs = {x, out},
                  .bytes = hidden,
                  .saves = Saves::nothing});
    const StorageId up = linear(norm(x, "norm2"), width, 4 * width, "mlp.up");
    const StorageId act =
        tape.add({.name = "gelu", .module = at + ".mlp", .inputs = {up}, .bytes = 4 * hidden});
    const StorageId down = linear(act, 4 * width, width, "mlp.down");
    x = tape.add({.name = "add",
                  .module = at,
                  .inputs = {x, down},
                  .bytes = hidden,
                  .saves = Saves::nothing});
  }
  const StorageId logits = tape.add({.name = "linear",
                                     .module = "head",
                                     .inputs = {x},
                                     .bytes = tokens * vocabulary * 2,
                                     .operations = 2 * t * w * static_cast<double>(vocabulary),
                                     .weight_bytes = vocabulary * width * 2});
  const StorageId probabilities = tape.add({.name = "log_softmax",
                                            .module = "head",
                                            .inputs = {logits},
                                            .bytes = tokens * vocabulary * 2,
                                            .saves = Saves::output});
  return tape.finish(tape.add({.name = "nll",
                               .module = "head",
                               .inputs = {probabilities},
                               .bytes = 4,
                               .saves = Saves::nothing}));
}

// Convolution, batch norm and ReLU over one batch of images.
class ConvolutionTape {
 public:
  explicit ConvolutionTape(Bytes batch) : batch_(batch) {}

  struct Image {
    StorageId storage = no_storage;
    Bytes channels = 0;
    Bytes side = 0;
  };

  Image input(Bytes side) { return {tape.input(batch_ * 3 * side * side * 2), 3, side}; }

  Image convolution(Image from, Bytes channels, Bytes kernel = 3, Bytes stride = 1) {
    const Bytes side = from.side / stride;
    const double operations = 2.0 * static_cast<double>(batch_ * side * side) *
                              static_cast<double>(channels * from.channels * kernel * kernel);
    // Convolutions reach about a third of the peak.
    return {tape.add({.name = "convolution",
                      .module = module,
                      .inputs = {from.storage},
                      .bytes = batch_ * channels * side * side * 2,
                      .operations = 3 * operations,
                      .weight_bytes = channels * from.channels * kernel * kernel * 2}),
            channels, side};
  }
  Image norm(Image from) {
    return {tape.add({.name = "batch_norm",
                      .module = module,
                      .inputs = {from.storage},
                      .bytes = bytes(from),
                      .further = {8 * from.channels},
                      .weight_bytes = 4 * from.channels}),
            from.channels, from.side};
  }
  Image relu(Image from) { return unary("relu", from, Tape::Saves::output); }
  Image unit(Image from, Bytes channels, Bytes kernel = 3, Bytes stride = 1) {
    return relu(norm(convolution(from, channels, kernel, stride)));
  }
  Image add(Image a, Image b) {
    return {tape.add({.name = "add",
                      .module = module,
                      .inputs = {a.storage, b.storage},
                      .bytes = bytes(a),
                      .saves = Tape::Saves::nothing}),
            a.channels, a.side};
  }
  Image concatenate(const std::vector<Image>& images) {
    Image all{no_storage, 0, images.front().side};
    std::vector<StorageId> inputs;
    for (const Image& image : images) {
      all.channels += image.channels;
      inputs.push_back(image.storage);
    }
    all.storage = tape.add({.name = "cat",
                            .module = module,
                            .inputs = inputs,
                            .bytes = bytes(all),
                            .saves = Tape::Saves::nothing});
    return all;
  }
  Image resized(Image from, Bytes side, Tape::Saves saves) {
    const Image to{no_storage, from.channels, side};
    return {tape.add({.name = side < from.side ? "max_pool" : "upsample",
                      .module = module,
                      .inputs = {from.storage},
                      .bytes = bytes(to),
                      .saves = saves}),
            to.channels, side};
  }
  StepTrace finish(Image last) {
    const StorageId pooled = tape.add({.name = "mean",
                                       .module = "head",
                                       .inputs = {last.storage},
                                       .bytes = batch_ * last.channels * 2,
                                       .saves = Tape::Saves::nothing});
    return tape.finish(
        tape.add({.name = "loss", .module = "head", .inputs = {pooled}, .bytes = 4}));
  }

  Tape tape;
  std::string module;

 private:
  [[nodiscard]] Bytes bytes(Image image) const {
    return batch_ * image.channels * image.side * image.side * 2;
  }
  Image unary(const std::string& name, Image from, Tape::Saves saves) {
    return {tape.add({.name = name,
                      .module = module,
                      .inputs = {from.storage},
                      .bytes = bytes(from),
                      .saves = saves}),
            from.channels, from.side};
  }

  Bytes batch_;
};

// Bottleneck blocks in four stages, as ResNet-50 has them with {3, 4, 6, 3}.
inline StepTrace resnet_step(const std::vector<int>& stages = {3, 4, 6, 3}, Bytes batch = 64) {
  ConvolutionTape net(batch);
  net.module = "stem";
  auto x = net.resized(net.unit(net.input(224), 64, 7, 2), 56, Tape::Saves::inputs);
  Bytes channels = 64;
  for (std::size_t s = 0; s < stages.size(); ++s, channels *= 2) {
    for (int b = 0; b < stages[s]; ++b) {
      net.module = "layer" + std::to_string(s + 1) + "." + std::to_string(b);
      const Bytes stride = s > 0 && b == 0 ? 2 : 1;
      auto y = net.unit(net.unit(x, channels, 1), channels, 3, stride);
      y = net.norm(net.convolution(y, 4 * channels, 1));
      const auto shortcut = b == 0 ? net.norm(net.convolution(x, 4 * channels, 1, stride)) : x;
      x = net.relu(net.add(y, shortcut));
    }
  }
  return net.finish(x);
}

// Long skip connections from the way down to the way up.
inline StepTrace unet_step(int depth = 4, Bytes batch = 8) {
  ConvolutionTape net(batch);
  auto x = net.input(256);
  std::vector<ConvolutionTape::Image> skips;
  for (int d = 0; d <= depth; ++d) {
    net.module = "down." + std::to_string(d);
    if (d > 0) x = net.resized(x, x.side / 2, Tape::Saves::inputs);
    x = net.unit(net.unit(x, Bytes{64} << d), Bytes{64} << d);
    skips.push_back(x);
  }
  for (int d = depth - 1; d >= 0; --d) {
    net.module = "up." + std::to_string(d);
    const auto up = net.resized(x, 2 * x.side, Tape::Saves::nothing);
    x = net.concatenate({up, skips[static_cast<std::size_t>(d)]});
    x = net.unit(net.unit(x, Bytes{64} << d), Bytes{64} << d);
  }
  return net.finish(x);
}

// Each layer reads all before it in its block, as DenseNet-121 does with {6, 12, 24, 16}.
inline StepTrace densenet_step(const std::vector<int>& stages = {6, 12, 24, 16}, Bytes batch = 64) {
  ConvolutionTape net(batch);
  net.module = "stem";
  auto x = net.resized(net.unit(net.input(224), 64, 7, 2), 56, Tape::Saves::inputs);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    std::vector<ConvolutionTape::Image> parts{x};
    for (int b = 0; b < stages[s]; ++b) {
      net.module = "block" + std::to_string(s + 1) + "." + std::to_string(b);
      const auto all = parts.size() == 1 ? x : net.concatenate(parts);
      const auto narrow = net.convolution(net.relu(net.norm(all)), 128, 1);
      parts.push_back(net.convolution(net.relu(net.norm(narrow)), 32));
    }
    net.module = "transition" + std::to_string(s + 1);
    x = net.concatenate(parts);
    if (s + 1 == stages.size()) break;
    x = net.convolution(net.relu(net.norm(x)), x.channels / 2, 1);
    x = net.resized(x, x.side / 2, Tape::Saves::nothing);
  }
  return net.finish(x);
}

// Layers of random operators that read one to three results, mostly recent ones.
inline StepTrace layered_step(int operators, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  Tape tape;
  std::vector<StorageId> made{tape.add({.name = "first",
                                        .module = "",
                                        .inputs = {tape.input(64)},
                                        .bytes = 1 << 20,
                                        .duration = Nanoseconds(5000)})};
  for (int o = 1; o < operators; ++o) {
    std::vector<StorageId> inputs{made.back()};
    for (std::size_t k = below(3); k > 0; --k) {
      const std::size_t reach = below(8) == 0 ? made.size() : std::min<std::size_t>(made.size(), 6);
      const StorageId further = made[made.size() - 1 - below(reach)];
      if (std::find(inputs.begin(), inputs.end(), further) == inputs.end()) {
        inputs.push_back(further);
      }
    }
    made.push_back(tape.add({.name = "op",
                             .module = "",
                             .inputs = inputs,
                             .bytes = static_cast<Bytes>((1 + below(16)) << 18),
                             .saves = static_cast<Tape::Saves>(below(4)),
                             .duration = Nanoseconds(static_cast<int>(1000 * (1 + below(100))))}));
  }
  return tape.finish(tape.add({.name = "loss", .module = "", .inputs = {made.back()}, .bytes = 4}));
}

// One operator after the other, with random bytes and times.
inline StepTrace chain_step(int operators, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t limit) { return static_cast<int>(random() % limit); };
  Tape tape;
  StorageId x = tape.input(1 << 20);
  for (int o = 0; o < operators; ++o) {
    x = tape.add({.name = "op",
                  .module = "",
                  .inputs = {x},
                  .bytes = Bytes{1 + below(8)} << 20,
                  .duration = Nanoseconds(1000 * (1 + below(20)))});
  }
  return tape.finish(tape.add({.name = "loss", .module = "", .inputs = {x}, .bytes = 4}));
}

// Small enough for the exhaustive search.
inline StepTrace tiny_step(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  Tape tape;
  std::vector<StorageId> made{tape.input(64)};
  for (int layer = 0; layer < 2; ++layer) {
    std::vector<StorageId> inputs{made.back()};
    if (made.size() > 2 && below(2) == 0) inputs.push_back(made[1]);
    if (inputs.size() == 2 && inputs[0] == inputs[1]) inputs.pop_back();
    made.push_back(tape.add({.name = "op",
                             .module = "",
                             .inputs = inputs,
                             .bytes = static_cast<Bytes>(10 * (1 + below(6))),
                             .saves = static_cast<Tape::Saves>(below(4)),
                             .duration = Nanoseconds(static_cast<int>(1000 * (1 + below(9))))}));
  }
  return tape.finish(tape.add({.name = "loss", .module = "", .inputs = {made.back()}, .bytes = 4}));
}

}  // namespace tidemark::test
