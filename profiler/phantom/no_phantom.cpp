// A build without LibTorch has no stand-in libraries either.
#include "tidemark/errors.hpp"
#include "tidemark/phantom.hpp"

namespace tidemark {

namespace {

[[noreturn]] void refuse() {
  throw DeviceError(
      "this build has no LibTorch, so it has no phantom GPU; build the release preset");
}

}  // namespace

PhantomRun run_on_phantom(const PhantomRequest&) { refuse(); }
void enter_phantom(const GpuProfile&) { refuse(); }
std::optional<GpuProfile> entered_phantom() { return std::nullopt; }
std::vector<PhantomCall> phantom_calls() { return {}; }

}  // namespace tidemark
