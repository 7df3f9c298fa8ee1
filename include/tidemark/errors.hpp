// The four ways in which Tidemark fails. What does not fit into memory or a budget is no failure
// but a value (see Measurement and Status).
#pragma once

#include <stdexcept>
#include <string>

namespace tidemark {

// The command line asks for something that does not exist or does not go together. Exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A file is missing, broken or holds what Tidemark cannot use. The message is one sentence that
// names the file, the place in it and the remedy. Exit code 1.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
  InputError(const std::string& file, const std::string& place, const std::string& problem)
      : std::runtime_error(file + (place.empty() ? "" : ": " + place) + ": " + problem) {}
};

// A call into LibTorch, the CUDA runtime or CUPTI failed. Exit code 1.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Tidemark itself is wrong: a planner or a builder broke a rule. Exit code 1.
struct InternalError : std::logic_error {
  using std::logic_error::logic_error;
};

}  // namespace tidemark
