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
  CuptiSession(const CuptiSession&) = delete;
  CuptiSession& operator=(const CuptiSession&) = delete;
  ~CuptiSession();

  // nullptr where there are no records to be had; then `reason` says why, in half a sentence.
  [[nodiscard]] static CuptiSession* open(std::string& reason);

  // Between start() and stop() everything that the GPU does is recorded; what the calling thread
  // launches between push() and pop() belongs to that number.
  void start();
  void push(std::uint64_t number);
  void pop();
  // Called when the GPU is idle.
  [[nodiscard]] ActivitySummary stop(std::size_t steps);

 private:
  struct Library;
  explicit CuptiSession(std::unique_ptr<Library> library);

  std::unique_ptr<Library> library_;
};

}  // namespace tidemark
