#include "allocation_stacks.hpp"

#include <dlfcn.h>
#include <torch/csrc/profiler/combined_traceback.h>

#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "observed_place.hpp"

namespace tidemark::phantom {

namespace {

using torch::CapturedTraceback;
using Frames = std::vector<CapturedTraceback::PyFrame>;

// A frame is an operator where its last instruction says so: Python's are -1 or more.
constexpr int operator_mark = -100;

bool is_operator(const CapturedTraceback::PyFrame& frame) { return frame.lasti <= operator_mark; }

Phase phase_of(const CapturedTraceback::PyFrame& frame) {
  return static_cast<Phase>(operator_mark - frame.lasti);
}

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::forward:
      return "forward";
    case Phase::backward:
      return "backward";
    case Phase::recomputation:
      return "recomputation";
    case Phase::optimizer:
      return "optimizer step";
    case Phase::unknown:
      break;
  }
  return "outside of a step";
}

// Torch's names may go with the operator; these stay.
void* interned(const char* name) {
  static std::mutex mutex;
  static auto* const names = new std::unordered_set<std::string>;
  const std::lock_guard lock(mutex);
  return const_cast<char*>(names->emplace(name).first->c_str());
}

// A function of the Python that runs this process; nullptr: none does.
template <typename Function>
Function* python_function(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

bool is_python_alive() {
  auto* const is_initialized = python_function<int()>("Py_IsInitialized");
  return is_initialized != nullptr && is_initialized() != 0;
}

// Stands before torch's own unwinder, whose frames it passes through.
class OperatorFrames final : public CapturedTraceback::Python {
 public:
  bool canGather() override { return true; }

  Frames gather() override {
    Frames frames;
    const std::vector<const char*>& running = running_operations();
    const int mark = operator_mark - static_cast<int>(current_phase());
    for (auto name = running.rbegin(); name != running.rend(); ++name) {
      // The engine's own mark around a node, which only says its name again.
      if (std::string_view(*name).starts_with("autograd::engine::")) continue;
      frames.push_back({interned(*name), mark});
    }
    if (next_ == nullptr || !next_->canGather()) return frames;
    const Frames python = next_->gather();
    frames.insert(frames.end(), python.begin(), python.end());
    return frames;
  }

  void release(Frames& frames) override {
    Frames python = of_python(frames);
    if (!python.empty()) next_->release(python);
    frames.clear();
  }

  void appendSymbolized(const Frames& frames, torch::SymbolizedTracebacks& all) override {
    for (std::size_t i = 0; i < frames.size();) {
      if (is_operator(frames[i])) {
        append({name_of(phase_of(frames[i])), static_cast<const char*>(frames[i].code), 0}, all);
        ++i;
        continue;
      }
      Frames python;
      while (i < frames.size() && !is_operator(frames[i])) python.push_back(frames[i++]);
      append_python(python, all);
    }
  }

  int traverse(Frames& frames, CapturedTraceback::visitproc visit, void* argument) override {
    Frames python = of_python(frames);
    return python.empty() ? 0 : next_->traverse(python, visit, argument);
  }

  int clear(Frames& frames) override {
    Frames python = of_python(frames);
    frames.clear();
    return python.empty() ? 0 : next_->clear(python);
  }

 private:
  static Frames of_python(const Frames& frames) {
    Frames python;
    for (const CapturedTraceback::PyFrame& frame : frames) {
      if (!is_operator(frame)) python.push_back(frame);
    }
    return python;
  }

  void append_python(const Frames& frames, torch::SymbolizedTracebacks& all) {
    if (is_python_alive()) return next_->appendSymbolized(frames, all);
    for (std::size_t i = 0; i < frames.size(); ++i) append({"Python", "", 0}, all);
  }

  // Each frame that was gathered is a list of such that are shown.
  static void append(torch::unwind::Frame frame, torch::SymbolizedTracebacks& all) {
    all.tracebacks.push_back({all.all_frames.size()});
    all.all_frames.push_back(std::move(frame));
  }
};

// What Python is to run once it has the time, as a pending call.
std::string& pending_code() {
  static auto* const code = new std::string;
  return *code;
}

int run_pending_code(void*) {
  auto* const run = python_function<int(const char*, void*)>("PyRun_SimpleStringFlags");
  return run == nullptr ? 0 : run(pending_code().c_str(), nullptr);
}

std::string hexadecimal(const std::string& text) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    hex += {digits[byte / 16], digits[byte % 16]};
  }
  return hex;
}

}  // namespace

void begin_stacks(const char* library, const char* leave) {
  // Never destroyed: torch goes on asking it.
  static auto* const frames = new OperatorFrames;
  CapturedTraceback::addPythonUnwinder(frames);
  if (!is_python_alive()) return;
  // Names nothing in the program's own module.
  pending_code() =
      std::string("__import__('atexit').register(getattr(__import__('ctypes').PyDLL(") +
      "__import__('os').fsdecode(bytes.fromhex('" + hexadecimal(library) + "'))), '" + leave +
      "'))\n";
  auto* const add = python_function<int(int (*)(void*), void*)>("Py_AddPendingCall");
  if (add != nullptr) add(run_pending_code, nullptr);
}

std::shared_ptr<c10::GatheredContext> gather_stack() {
  return CapturedTraceback::gather(/*python=*/true, /*script=*/false, /*cpp=*/false);
}

}  // namespace tidemark::phantom
