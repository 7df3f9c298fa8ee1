#include "generator_state.hpp"

#include <mutex>

namespace tidemark {

namespace {

at::CPUGeneratorImpl& default_generator() {
  return *at::detail::getDefaultCPUGenerator().get<at::CPUGeneratorImpl>();
}

}  // namespace

GeneratorState GeneratorState::take() {
  at::CPUGeneratorImpl& generator = default_generator();
  const std::scoped_lock lock(generator.mutex_);
  return {.engine = generator.engine(),
          .next_float = generator.next_float_normal_sample(),
          .next_double = generator.next_double_normal_sample(),
          .philox = {}};
}

void GeneratorState::restore() const {
  at::CPUGeneratorImpl& generator = default_generator();
  const std::scoped_lock lock(generator.mutex_);
  generator.set_engine(engine);
  generator.set_next_float_normal_sample(next_float);
  generator.set_next_double_normal_sample(next_double);
}

bool GeneratorState::is_same(const GeneratorState& other) const {
  const at::mt19937_data_pod ours = engine.data();
  const at::mt19937_data_pod theirs = other.engine.data();
  return ours.left_ == theirs.left_ && ours.next_ == theirs.next_ && ours.state_ == theirs.state_ &&
         next_float == other.next_float && next_double == other.next_double &&
         philox == other.philox;
}

void seed_generator(std::int64_t seed) {
  at::CPUGeneratorImpl& generator = default_generator();
  const std::scoped_lock lock(generator.mutex_);
  generator.set_current_seed(static_cast<std::uint64_t>(seed));
}

}  // namespace tidemark
