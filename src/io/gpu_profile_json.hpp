// What the two kinds of file that describe a machine have in common: a calibration holds the
// profile of its card.
#pragma once

#include <string>

#include "json_reading.hpp"
#include "tidemark/gpu_profile.hpp"

namespace tidemark {

inline constexpr const char* machine_format = "tidemark.machine";
inline constexpr const char* gpu_profile_format = "tidemark.gpu_profile";

[[nodiscard]] OrderedJson to_json(const GpuProfile& profile);
[[nodiscard]] GpuProfile read_gpu_profile(const std::string& path, const JsonCursor& root);

}  // namespace tidemark
