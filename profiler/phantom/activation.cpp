#include "activation.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "beside_program.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

// Named without their folder, which may hold a space; the loader finds them by library path.
constexpr const char* preloaded = "libtidemark_phantom.so:libnccl.so.2";
constexpr Bytes room_to_record = Bytes{1} << 40;
constexpr std::array<const char*, 5> library_files{
    "libtidemark_phantom.so", "libtidemark_phantom_observer.so", "libcuda.so.1", "libnccl.so.2",
    "libnvidia-ml.so.1"};

void prepend(const char* variable, const std::string& value) {
  const char* present = std::getenv(variable);
  const bool is_empty = present == nullptr || *present == '\0';
  const std::string all = is_empty ? value : value + ":" + present;
  setenv(variable, all.c_str(), 1);
}

std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(file, argument, '\0');) arguments.push_back(argument);
  return arguments;
}

// Null outside of the phantom.
const phantom::ProcessRecord* own_record() {
  void* function = dlsym(RTLD_DEFAULT, "tidemark_phantom_record");
  if (function == nullptr) return nullptr;
  decltype(&tidemark_phantom_record) record = nullptr;
  std::memcpy(&record, &function, sizeof function);
  return record();
}

}  // namespace

std::string phantom_libraries() {
  const std::filesystem::path folder = beside_program("phantom");
  for (const char* library : library_files) {
    if (std::filesystem::exists(folder / library)) continue;
    throw DeviceError("the phantom GPU's library " + std::string(library) + " is not in " +
                      folder.string() +
                      "; keep the folder phantom beside the program, as the build made it");
  }
  return folder.string();
}

void set_phantom_environment(const GpuProfile& profile, const std::string& libraries) {
  setenv(phantom::profile_variable, format_gpu_profile(profile).c_str(), 1);
  prepend("LD_PRELOAD", preloaded);
  prepend("LD_LIBRARY_PATH", libraries);
}

GpuProfile with_room_to_record(GpuProfile profile) {
  profile.total_memory = std::max(profile.total_memory, room_to_record);
  return profile;
}

void enter_phantom(const GpuProfile& profile) {
  const std::optional<GpuProfile> entered = entered_phantom();
  if (entered == profile) return;
  if (entered) {
    throw UsageError("this program runs on the phantom " + entered->name +
                     " already; start it again for " + profile.name);
  }
  if (std::getenv(phantom::profile_variable) != nullptr) {
    throw DeviceError(
        "the phantom GPU's libraries could not be loaded; the loader's own message "
        "stands above");
  }
  set_phantom_environment(profile, phantom_libraries());
  const std::vector<std::string> arguments = own_arguments();
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  std::fflush(nullptr);
  execv("/proc/self/exe", pointers.data());
  throw DeviceError(std::string("this program cannot start itself again: ") + std::strerror(errno));
}

std::optional<GpuProfile> entered_phantom() {
  const char* text = std::getenv(phantom::profile_variable);
  if (text == nullptr || own_record() == nullptr) return std::nullopt;
  return parse_gpu_profile(phantom::profile_variable, text);
}

std::vector<PhantomCall> calls_of(const phantom::ProcessRecord& record) {
  std::vector<PhantomCall> calls;
  const int count = std::min<int>(record.call_count, static_cast<int>(phantom::most_calls));
  for (int i = 0; i < count; ++i) {
    const phantom::CallRecord& call = record.calls[static_cast<std::size_t>(i)];
    if (call.times == 0) continue;  // a forked process knows its parent's names
    calls.push_back({.name = call.name.data(),
                     .answer = static_cast<PhantomAnswer>(call.answer),
                     .times = call.times});
  }
  return calls;
}

std::vector<PhantomCall> phantom_calls() {
  const phantom::ProcessRecord* record = own_record();
  return record == nullptr ? std::vector<PhantomCall>{} : calls_of(*record);
}

}  // namespace tidemark
