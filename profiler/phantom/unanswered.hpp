// Calls that reached the phantom GPU and have no exact answer there. Counted by name in the
// process's record.
#pragma once

#include "process_record.hpp"

namespace tidemark::phantom {

// One per function, static inside it.
class Unanswered {
 public:
  explicit Unanswered(const char* name) : name_(name) {}

  // Counts the call and gives `status`: 0 lets the caller go on, anything else refuses.
  int reached(int status);
  void modelled();

 private:
  void count(Answer answer);

  const char* name_;
  std::atomic<CallRecord*> record_ = nullptr;
};

}  // namespace tidemark::phantom

// In the preloaded library, for the other stand-ins.
extern "C" void tidemark_phantom_count(const char* name, tidemark::phantom::Answer answer,
                                       std::atomic<tidemark::phantom::CallRecord*>* record);
