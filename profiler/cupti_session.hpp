// CUPTI's activity records of this process, where libcupti is there and nobody else uses it. The
// library is opened when it is first needed: without it the tool works all the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "activity_times.hpp"

namespace tidemark {

class CuptiSession {
 public:
  static constexpr const char* usual_library = "libcupti.so.13";

  CuptiSession(const CuptiSession&) = delete;
  CuptiSession& operator=(const CuptiSession&) = delete;
  ~CuptiSession();

  // nullptr where there are no records to be had; then `reason` says why, in half a sentence. Lives
  // as long as the process: CUPTI may call back at any time.
  [[nodiscard]] static CuptiSession* open(std::string& reason, const char* file = usual_library);

  // What the GPU does between start() and stop() is told by stop(); what the calling thread
  // launches between push() and pop() belongs to that number. The GPU is idle at both. CUPTI goes
  // on recording after stop(), since its first records after a start can have wrong times. Throws
  // DeviceError where CUPTI records no more.
  void start();
  void push(std::uint64_t number);
  void pop();
  [[nodiscard]] ActivitySummary stop(std::size_t steps);
  // Records nothing any more, until the next start().
  void rest();

 private:
  struct Library;
  explicit CuptiSession(std::unique_ptr<Library> library);

  std::unique_ptr<Library> library_;
  bool is_recording_ = false;
  std::uint64_t started_at_ = 0;  // by CUPTI's clock
};

}  // namespace tidemark
