#include "unanswered_calls.hpp"

#include <ostream>

#include "tidemark/phantom.hpp"

namespace tidemark {

namespace {

std::string names_of(const std::vector<PhantomCall>& calls) {
  std::string names;
  for (const PhantomCall& call : calls) {
    names += (names.empty() ? "" : ", ") + call.name + " (" + std::to_string(call.times) + ")";
  }
  return names;
}

}  // namespace

void note_unanswered_calls(std::vector<std::string>& notes) {
  const std::vector<PhantomCall> calls = phantom_calls();
  if (calls.empty()) return;
  notes.push_back("the phantom GPU has no exact answer to: " + names_of(calls));
}

ExitCode judge_unanswered_calls(ExitCode code, bool is_strict, const Streams& streams) {
  const std::vector<PhantomCall> calls = phantom_calls();
  if (!is_strict || calls.empty()) return code;
  streams.err << "tidemark: the phantom GPU has no exact answer to " << names_of(calls)
              << "; without --strict that is only noted\n";
  return ExitCode::failed;
}

}  // namespace tidemark
