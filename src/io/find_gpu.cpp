#include "gpu_profile_json.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

// What `calibrate` wrote on a card of the user's, or a profile that somebody wrote by hand.
Gpu read_gpu(const std::string& path) {
  const std::string text = read_file(path);
  const Json document = parse_document(path, text);
  if (document.is_object() && document.value("format", Json()) == machine_format) {
    MachineRates rates = parse_machine(path, text);
    if (!rates.card) {
      throw InputError(path, "",
                       "is the calibration of " + rates.name +
                           ", which is no GPU; name a file that tidemark calibrate --device cuda "
                           "wrote");
    }
    return {.profile = *rates.card, .rates = rates};
  }
  const GpuProfile profile = parse_gpu_profile(path, text);
  return {.profile = profile, .rates = rates_of(profile)};
}

}  // namespace

Gpu find_gpu(const std::string& name) {
  const std::string custom = "custom:";
  if (name.starts_with(custom)) return read_gpu(name.substr(custom.size()));
  return {.profile = gpu_profile(name), .rates = rates_of(gpu_profile(name))};
}

}  // namespace tidemark
