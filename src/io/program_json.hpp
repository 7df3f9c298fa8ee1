// The parts of a .pt2 file's JSON as values. A wrong or missing field throws
// nlohmann::json::exception or ProgramFormatError, what is not supported UnsupportedProgramError;
// read_program() adds file and place.
// Source: torch/_export/serde/schema.py, schema major 8.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tidemark/program.hpp"

namespace tidemark {

struct ProgramFormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The file is as PyTorch writes it, and holds what no schedule can.
struct UnsupportedProgramError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[nodiscard]] ProgramArgument parse_argument(const nlohmann::json& json, int depth);
[[nodiscard]] TensorMeta parse_tensor_meta(const nlohmann::json& json);
// `depth` counts subgraphs in subgraphs.
[[nodiscard]] Graph parse_graph(const nlohmann::json& json, int depth);
[[nodiscard]] InputSpec parse_input_spec(const nlohmann::json& json);
[[nodiscard]] OutputSpec parse_output_spec(const nlohmann::json& json);

}  // namespace tidemark
