// The chosen row's memory as a snapshot of PyTorch's allocator, for pytorch.org/memory_viz and
// torch/cuda/_memory_viz.py: what the simulated step allocates and frees, operator by operator.
#include <charconv>
#include <cstddef>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "address_space.hpp"
#include "columns.hpp"
#include "formats.hpp"
#include "pickle.hpp"

namespace tidemark {

namespace {

// As CUDA's own addresses look; the viewer wants none of them to be zero.
constexpr Bytes base_address = 0x7f0000000000;

struct Frame {
  std::string name;
  std::string file;
  std::int64_t line = 0;
};

// "file.py:12 in forward"
Frame source_frame(const std::string& source) {
  const std::size_t in = source.rfind(" in ");
  const std::size_t colon = source.rfind(':', in);
  Frame frame{.name = "", .file = source, .line = 0};
  if (in == std::string::npos || colon == std::string::npos) return frame;
  frame.name = source.substr(in + 4);
  frame.file = source.substr(0, colon);
  std::from_chars(source.data() + colon + 1, source.data() + in, frame.line);
  return frame;
}

struct Event {
  std::string_view action;
  Bytes address = 0;
  Bytes bytes = 0;
  std::int64_t microseconds = 0;
  std::vector<Frame> frames;
  Term term = Term::static_memory;
};

class SnapshotWriter final : public ReplayWatcher {
 public:
  SnapshotWriter(const StepTrace& trace, const Schedule& schedule)
      : trace_(trace), schedule_(schedule) {
    for (const Op& op : trace.ops) is_timed_ = is_timed_ || op.duration.count() > 0;
  }

  void came(const Instance& instance) override {
    if (instance.place != Place::device || instance.bytes <= 0) return;
    Event event{.action = "alloc",
                .address = base_address + space_.take(instance.bytes),
                .bytes = instance.bytes,
                .microseconds = now(),
                .frames = frames_of(instance),
                .term = instance.term};
    alive_[key_of(instance)].push_back(events_.size());
    events_.push_back(std::move(event));
  }

  void went(const Instance& instance) override {
    if (instance.place != Place::device || instance.bytes <= 0) return;
    std::vector<std::size_t>& made = alive_.at(key_of(instance));
    Event event = events_[made.back()];
    made.pop_back();
    space_.give_back(event.address - base_address, event.bytes);
    event.microseconds = now();
    for (const char* action : {"free_requested", "free_completed"}) {
      event.action = action;
      events_.push_back(event);
    }
  }

  void during(std::size_t, Bytes, Bytes) override {}

  void done(std::size_t step, Queue queue, double, double end) override {
    if (queue == Queue::compute) seconds_ = end;
    step_ = step + 1;
  }

  void write(std::ostream& out) const {
    PickleWriter pickle(out);
    pickle.open_dictionary();
    pickle.text("segments");
    write_segments(pickle);
    pickle.text("device_traces");
    pickle.open_list();
    pickle.open_list();
    write_event({.action = "segment_alloc", .address = base_address, .bytes = space_.end()},
                pickle);
    for (const Event& event : events_) write_event(event, pickle);
    pickle.close_list();
    pickle.close_list();
    pickle.text("allocator_settings");
    pickle.open_dictionary();
    pickle.close_dictionary();
    pickle.text("external_annotations");
    pickle.open_list();
    pickle.close_list();
    pickle.close_dictionary();
    pickle.finish();
  }

 private:
  // An unnamed creation and a workspace come and go within one step, so that the latest is meant.
  using Key = std::tuple<StorageId, std::int32_t, Term, Bytes>;
  static Key key_of(const Instance& instance) {
    return {instance.storage, instance.number, instance.term, instance.bytes};
  }

  // Without times the steps' positions serve.
  [[nodiscard]] std::int64_t now() const {
    return is_timed_ ? static_cast<std::int64_t>(1e6 * seconds_) : static_cast<std::int64_t>(step_);
  }

  [[nodiscard]] const Op* running() const {
    if (step_ >= schedule_.steps.size()) return nullptr;
    const auto* run = std::get_if<Run>(&schedule_.steps[step_].action);
    return run == nullptr ? nullptr : &trace_.ops[index(run->op)];
  }

  // The innermost first, as PyTorch's own: what it is, the operator, the user's line.
  [[nodiscard]] std::vector<Frame> frames_of(const Instance& instance) const {
    std::string what(title(instance.term));
    if (instance.storage != no_storage && !trace_.storages[index(instance.storage)].name.empty()) {
      what = trace_.storages[index(instance.storage)].name;
    }
    std::vector<Frame> frames{{.name = what, .file = "tidemark", .line = 0}};
    if (instance.term == Term::static_memory) return frames;
    if (const Op* op = running()) {
      frames.push_back({.name = op->name, .file = op->module, .line = 0});
      if (!op->source.empty()) frames.push_back(source_frame(op->source));
    }
    return frames;
  }

  static void write_frames(const std::vector<Frame>& frames, PickleWriter& pickle) {
    pickle.open_list();
    for (const Frame& frame : frames) {
      pickle.open_dictionary();
      pickle.text("name");
      pickle.text(frame.name);
      pickle.text("filename");
      pickle.text(frame.file);
      pickle.text("line");
      pickle.integer(frame.line);
      pickle.close_dictionary();
    }
    pickle.close_list();
  }

  static void write_event(const Event& event, PickleWriter& pickle) {
    pickle.open_dictionary();
    pickle.text("action");
    pickle.text(event.action);
    for (const auto& [name, value] :
         {std::pair<std::string_view, std::int64_t>{"addr", event.address},
          {"size", event.bytes},
          {"stream", 0},
          {"time_us", event.microseconds}}) {
      pickle.text(name);
      pickle.integer(value);
    }
    pickle.text("frames");
    write_frames(event.frames, pickle);
    pickle.text("user_metadata");
    pickle.text(title(event.term));
    pickle.close_dictionary();
  }

  struct Block {
    Bytes size = 0;
    const Event* event = nullptr;  // nullptr: free
  };

  // What is there at the end of the step.
  [[nodiscard]] std::map<Bytes, Block> final_blocks() const {
    std::map<Bytes, Block> blocks;
    for (const auto& [key, made] : alive_) {
      for (const std::size_t number : made) {
        const Event& event = events_[number];
        blocks[event.address] = {AddressSpace::rounded(event.bytes), &event};
      }
    }
    for (const auto& [address, bytes] : space_.holes())
      blocks[base_address + address] = {bytes, nullptr};
    return blocks;
  }

  void write_segments(PickleWriter& pickle) const {
    const std::map<Bytes, Block> blocks = final_blocks();
    Bytes allocated = 0;
    Bytes requested = 0;
    for (const auto& [address, block] : blocks) {
      if (block.event == nullptr) continue;
      allocated += block.size;
      requested += block.event->bytes;
    }
    pickle.open_list();
    pickle.open_dictionary();
    for (const auto& [name, value] : {std::pair<std::string_view, std::int64_t>{"device", 0},
                                      {"address", base_address},
                                      {"total_size", space_.end()},
                                      {"allocated_size", allocated},
                                      {"active_size", allocated},
                                      {"requested_size", requested},
                                      {"stream", 0}}) {
      pickle.text(name);
      pickle.integer(value);
    }
    pickle.text("segment_type");
    pickle.text("large");
    pickle.text("segment_pool_id");
    pickle.pair(0, 0);
    pickle.text("is_expandable");
    pickle.boolean(false);
    pickle.text("frames");
    write_frames({}, pickle);
    pickle.text("blocks");
    pickle.open_list();
    for (const auto& [address, block] : blocks) write_block(address, block, pickle);
    pickle.close_list();
    pickle.close_dictionary();
    pickle.close_list();
  }

  static void write_block(Bytes address, const Block& block, PickleWriter& pickle) {
    pickle.open_dictionary();
    for (const auto& [name, value] :
         {std::pair<std::string_view, std::int64_t>{"address", address},
          {"size", block.size},
          {"requested_size", block.event == nullptr ? block.size : block.event->bytes}}) {
      pickle.text(name);
      pickle.integer(value);
    }
    pickle.text("state");
    pickle.text(block.event == nullptr ? "inactive" : "active_allocated");
    pickle.text("frames");
    write_frames(block.event == nullptr ? std::vector<Frame>{} : block.event->frames, pickle);
    pickle.close_dictionary();
  }

  const StepTrace& trace_;
  const Schedule& schedule_;
  AddressSpace space_;
  std::map<Key, std::vector<std::size_t>> alive_;  // positions of their "alloc" events
  std::vector<Event> events_;
  bool is_timed_ = false;
  double seconds_ = 0;
  std::size_t step_ = 0;
};

class SnapshotExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "snapshot"; }
  [[nodiscard]] std::string_view description() const override {
    return "one row as a memory snapshot, for pytorch.org/memory_viz";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    const StepTrace& trace = kept_trace(source);
    const RowDetail& detail = kept_detail(source, chosen_row(source));
    SnapshotWriter writer(trace, detail.schedule);
    replay(trace, detail.schedule, writer);
    writer.write(out);
  }
};

}  // namespace

const Exporter& snapshot_exporter() {
  static const SnapshotExporter exporter;
  return exporter;
}

}  // namespace tidemark
