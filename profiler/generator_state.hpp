// The state of the default generators by value: PyTorch's own form of it is a counted tensor.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <cstdint>
#include <optional>

namespace tidemark {

// A GPU's generator: a counter under a seed.
struct PhiloxState {
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
  bool operator==(const PhiloxState&) const = default;
};

struct GeneratorState {
  at::mt19937 engine;
  std::optional<float> next_float;
  std::optional<double> next_double;
  std::optional<PhiloxState> philox;  // absent on the CPU

  // Of the CPU's generator.
  [[nodiscard]] static GeneratorState take();
  void restore() const;
  // Whether the same numbers come out of both.
  [[nodiscard]] bool is_same(const GeneratorState& other) const;
};

// torch.manual_seed on the CPU.
void seed_generator(std::int64_t seed);

}  // namespace tidemark
