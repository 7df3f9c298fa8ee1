// Every device, one line each. LibTorch and the CUDA libraries take most of a second and half a
// gigabyte to load, so they lie in a library of their own, opened with the first device: whatever
// needs none starts at once, and works where there is no torch.
#include <dlfcn.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <string>
#include <string_view>

#include "beside_program.hpp"
#include "phantom/activation.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/phantom.hpp"
#include "torch_library.hpp"

namespace tidemark {

namespace {

constexpr const char* library_file = "libtidemark_torch.so";

const TorchDevices& open_library() {
  const std::filesystem::path path = beside_program(library_file);
  if (!std::filesystem::exists(path)) {
    throw DeviceError("the library " + path.string() +
                      " is missing; keep it beside the program, as the build made it");
  }
  // What torch loads later looks for torch's symbols among everybody's.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    throw DeviceError("LibTorch cannot be loaded: " + std::string(dlerror()) +
                      "; name the folder of torch's libraries in LD_LIBRARY_PATH");
  }
  void* function = dlsym(library, "tidemark_torch_devices");
  if (function == nullptr) {
    throw DeviceError(path.string() + " belongs to another build of this program");
  }
  return *reinterpret_cast<decltype(&tidemark_torch_devices)>(function)();
}

const TorchDevices& torch() {
  static const TorchDevices& devices = open_library();
  return devices;
}

// "cuda:1" is the kind "cuda" with the argument "1".
struct DeviceRow {
  const char* kind;
  const char* usage;
  std::unique_ptr<Device> (*make)(const std::string& argument, std::int32_t threads);
};

std::unique_ptr<Device> make_cpu(const std::string& argument, std::int32_t threads) {
  if (!argument.empty()) throw UsageError("--device cpu takes no number");
  return std::unique_ptr<Device>(torch().cpu(threads));
}

std::unique_ptr<Device> make_cuda(const std::string& argument, std::int32_t) {
  std::int32_t index = 0;
  const char* end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, index);
  const bool is_number = error == std::errc() && rest == end && index >= 0 && index < 64;
  if (!argument.empty() && !is_number) {
    throw UsageError("--device cuda takes the number of a GPU, such as cuda:0, not cuda:" +
                     argument);
  }
  return std::unique_ptr<Device>(torch().cuda(index));
}

std::unique_ptr<Device> make_phantom(const std::string& argument, std::int32_t) {
  const Gpu gpu = find_gpu(argument);
  enter_phantom(with_room_to_record(gpu.profile));
  return std::unique_ptr<Device>(torch().phantom(gpu));
}

std::unique_ptr<Device> make_auto(const std::string&, std::int32_t threads) {
  if (torch().has_cuda()) return make_cuda("", threads);
  return make_cpu("", threads);
}

constexpr std::array<DeviceRow, 4> devices{{{"auto", "auto", make_auto},
                                            {"cpu", "cpu", make_cpu},
                                            {"cuda", "cuda[:N]", make_cuda},
                                            {"phantom", "phantom:PROFILE", make_phantom}}};

}  // namespace

std::unique_ptr<Device> make_device(const std::string& name, std::int32_t threads) {
  const std::size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const std::string argument = colon == std::string::npos ? "" : name.substr(colon + 1);
  std::string known;
  for (const DeviceRow& row : devices) {
    if (kind == row.kind) return row.make(argument, threads);
    known += (known.empty() ? "" : ", ") + std::string(row.usage);
  }
  throw UsageError("there is no device '" + name + "'; --device takes one of " + known);
}

}  // namespace tidemark
