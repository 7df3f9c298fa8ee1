// The Device seam of a build without LibTorch: nothing can be recorded or executed.
#include "tidemark/device.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

std::unique_ptr<Device> make_device(const std::string& name, std::int32_t) {
  throw DeviceError("this build has no LibTorch, so there is no device " + name +
                    "; saved traces can still be simulated and planned");
}

}  // namespace tidemark
