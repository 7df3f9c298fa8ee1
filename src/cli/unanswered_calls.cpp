#include "unanswered_calls.hpp"

#include <algorithm>
#include <ostream>
#include <string_view>

#include "tidemark/phantom.hpp"
#include "tidemark/phantom_remedy.hpp"

namespace tidemark {

namespace {

constexpr std::string_view beginning_of_note = "the phantom GPU has no exact answer to: ";

// Both lists in one, each call once.
std::vector<PhantomCall> united(std::vector<PhantomCall> calls,
                                const std::vector<PhantomCall>& others) {
  for (const PhantomCall& other : others) {
    const auto found = std::find_if(calls.begin(), calls.end(), [&](const PhantomCall& call) {
      return call.name == other.name && call.answer == other.answer;
    });
    if (found == calls.end()) {
      calls.push_back(other);
    } else {
      found->times = std::max(found->times, other.times);
    }
  }
  return calls;
}

}  // namespace

std::optional<std::string> describe_unanswered_calls(const StepTrace& trace) {
  const auto& recorded = trace.provenance.calls_without_answer;
  const std::vector<PhantomCall> calls =
      united(recorded.value_or(std::vector<PhantomCall>{}), phantom_calls());
  if (calls.empty()) {
    if (trace.device.kind != DeviceKind::phantom || recorded) return std::nullopt;
    return "the trace does not tell which calls had no exact answer on the phantom GPU that "
           "recorded it; record the step again to know";
  }
  std::string names;
  for (const PhantomCall& call : calls) {
    names += (names.empty() ? "" : ", ") + call.name + " (" + std::to_string(call.times) + ")";
  }
  for (const std::string& remedy : phantom_remedies(calls)) names += "; " + remedy;
  return std::string(beginning_of_note) + names;
}

void note_unanswered_calls(const StepTrace& trace, std::vector<std::string>& notes) {
  const std::optional<std::string> sentence = describe_unanswered_calls(trace);
  if (!sentence) return;
  std::erase_if(notes, [&](const std::string& note) {
    return note.starts_with(beginning_of_note) || note == *sentence;
  });
  notes.push_back(*sentence);
}

ExitCode judge_unanswered_calls(ExitCode code, const StepTrace& trace, bool is_strict,
                                const Streams& streams) {
  const std::optional<std::string> sentence = describe_unanswered_calls(trace);
  if (!is_strict || !sentence) return code;
  streams.err << "tidemark: " << *sentence << "; without --strict that is only noted\n";
  return ExitCode::failed;
}

}  // namespace tidemark
