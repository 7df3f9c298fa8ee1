// The environment in which a program finds the phantom instead of NVIDIA's libraries.
#pragma once

#include <string>

#include "process_record.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

// The folder of the phantom's libraries. Throws DeviceError where they are missing.
[[nodiscard]] std::string phantom_libraries();
// Sets the environment for this process's future programs.
void set_phantom_environment(const GpuProfile& profile, const std::string& libraries);

// The plain step is recorded first, and it may not fit where a checkpointed one does. So a phantom
// has more memory than its card, and executions are held to what the card has.
[[nodiscard]] GpuProfile with_room_to_record(GpuProfile profile);

[[nodiscard]] std::vector<PhantomCall> calls_of(const phantom::ProcessRecord& record);

}  // namespace tidemark
