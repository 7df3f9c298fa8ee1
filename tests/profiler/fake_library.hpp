// What a library that stands in for NVIDIA's was told and answers, reached through the library as
// the code under test reaches it.
#pragma once

#include <dlfcn.h>

#include <catch2/catch.hpp>

namespace tidemark::test {

// As new. `function` gives it: Fake* function(), extern "C".
template <typename Fake>
Fake& renewed(const char* library_path, const char* function) {
  void* library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
  REQUIRE(library != nullptr);
  auto* const state = reinterpret_cast<Fake* (*)()>(dlsym(library, function));
  REQUIRE(state != nullptr);
  *state() = Fake{};
  return *state();
}

}  // namespace tidemark::test
