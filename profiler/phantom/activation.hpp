// The environment in which a program finds the phantom instead of NVIDIA's libraries.
#pragma once

#include <string>

#include "process_record.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

// Sets it for this process's future programs. Throws DeviceError where the libraries are missing.
void set_phantom_environment(const GpuProfile& profile);

[[nodiscard]] std::vector<PhantomCall> calls_of(const phantom::ProcessRecord& record);

}  // namespace tidemark
