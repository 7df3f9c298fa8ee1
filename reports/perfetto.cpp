// The chosen row's schedule as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "columns.hpp"
#include "formats.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

// Work that overlaps lies on different tracks, so that no slice cuts another.
enum class Track : std::uint8_t {
  forward,
  recompute,
  backward,
  optimizer,
  offload,
  fetch,
  moves,
  waits
};
constexpr std::array<const char*, 8> track_names{"forward",         "recompute", "backward",
                                                 "optimizer",       "offload",   "fetch",
                                                 "copies in order", "waiting"};

constexpr int process = 1;

Track track_of(const Op& op, Cause cause) {
  if (cause == Cause::recompute) return Track::recompute;
  if (op.phase == Phase::forward) return Track::forward;
  return op.phase == Phase::backward ? Track::backward : Track::optimizer;
}

Track track_of(Cause cause) {
  if (cause == Cause::offload) return Track::offload;
  return cause == Cause::fetch ? Track::fetch : Track::moves;
}

class TraceWriter final : public ReplayWatcher {
 public:
  TraceWriter(const StepTrace& trace, const RowDetail& detail)
      : trace_(trace), schedule_(detail.schedule), offloads_(trace.storages.size()) {
    if (detail.predicted && detail.predicted->reserved_bytes.size() == schedule_.steps.size() &&
        detail.predicted->allocated_bytes.size() == schedule_.steps.size()) {
      allocator_ = &*detail.predicted;
    }
    is_timed_ = false;
    for (const Op& op : trace.ops) is_timed_ = is_timed_ || op.duration.count() > 0;
  }

  void came(const Instance&) override {}
  void went(const Instance&) override {}

  void during(std::size_t, Bytes live_bytes, Bytes host_bytes) override {
    live_ = live_bytes;
    host_ = host_bytes;
  }

  void done(std::size_t step, Queue queue, double begin, double end) override {
    // Without times every operator takes a microsecond.
    Span span{1e6 * begin, 1e6 * (end - begin)};
    if (!is_timed_) span = {static_cast<double>(step), 1};
    if (queue == Queue::compute || !is_timed_) count(step, span.begin);
    std::visit([&](const auto& action) { write(action, schedule_.steps[step].cause, span); },
               schedule_.steps[step].action);
  }

  [[nodiscard]] Json finish(const std::string& name) {
    Json head = Json::array();
    const auto describe_track = [&](const char* what, int track, const char* key,
                                    const Json& value) {
      head.push_back({{"ph", "M"},
                      {"pid", process},
                      {"tid", track},
                      {"name", what},
                      {"args", {{key, value}}}});
    };
    describe_track("process_name", 0, "name", name);
    for (std::size_t t = 0; t < track_names.size(); ++t) {
      const int track = static_cast<int>(t) + 1;
      describe_track("thread_name", track, "name", track_names.at(t));
      describe_track("thread_sort_index", track, "sort_index", track);
    }
    for (Json& event : events_) head.push_back(std::move(event));
    return head;
  }

  [[nodiscard]] bool is_timed() const { return is_timed_; }

 private:
  struct Span {
    double begin = 0;
    double length = 0;
  };

  void count(std::size_t step, double at) {
    counter("live", live_, last_live_, at);
    counter("host", host_, last_host_, at);
    if (allocator_ == nullptr) return;
    counter("allocated", allocator_->allocated_bytes[step], last_allocated_, at);
    counter("reserved", allocator_->reserved_bytes[step], last_reserved_, at);
  }

  void counter(const char* name, Bytes bytes, std::optional<Bytes>& last, double at) {
    if (last == bytes) return;
    last = bytes;
    events_.push_back(
        {{"ph", "C"}, {"pid", process}, {"name", name}, {"ts", at}, {"args", {{"bytes", bytes}}}});
  }

  void slice(Track track, const std::string& name, const char* category, Span span,
             Json arguments) {
    events_.push_back({{"ph", "X"},
                       {"pid", process},
                       {"tid", static_cast<int>(track) + 1},
                       {"name", name},
                       {"cat", category},
                       {"ts", span.begin},
                       {"dur", span.length},
                       {"args", std::move(arguments)}});
  }

  // An arrow from the end of an offload to the begin of the fetch that brings it back.
  void arrow(const char* phase, Track track, std::size_t number, double at) {
    Json event{{"ph", phase},
               {"pid", process},
               {"tid", static_cast<int>(track) + 1},
               {"name", "checkpoint"},
               {"cat", "offload"},
               {"id", number},
               {"ts", at}};
    if (*phase == 'f') event["bp"] = "e";
    events_.push_back(std::move(event));
  }

  void write(const Run& run, Cause cause, Span span) {
    const Op& op = trace_.ops[index(run.op)];
    const OpForm form = form_of(op, run.gradients);
    Bytes created = 0;
    for (const StorageId storage : op.creates) {
      if (form.makes(storage)) created += trace_.storages[index(storage)].bytes;
    }
    Json arguments{{"operator", static_cast<std::int32_t>(run.op)},
                   {"creates_bytes", created},
                   {"workspace_bytes", form.workspace_bytes},
                   {"live_bytes", live_}};
    if (!op.module.empty()) arguments["module"] = op.module;
    if (!op.source.empty()) arguments["source"] = op.source;
    slice(track_of(op, cause), op.name, std::string(key(cause)).c_str(), span,
          std::move(arguments));
  }

  void write(const Copy& copy, Cause cause, Span span) {
    const Instance& from = schedule_.instances[index(copy.from)];
    const Track track = track_of(cause);
    const std::string name(key(cause));
    slice(track, name, "copy", span,
          {{"bytes", copy.bytes},
           {"storage", static_cast<std::int32_t>(from.storage)},
           {"queue", key(copy.queue)}});
    if (from.storage == no_storage) return;
    auto& pending = offloads_[index(from.storage)];
    if (cause == Cause::offload) {
      pending = Pending{++arrows_, span.begin + span.length};
      return;
    }
    if (cause != Cause::fetch || !pending) return;
    arrow("s", Track::offload, pending->number, pending->end);
    arrow("f", Track::fetch, pending->number, span.begin);
    pending.reset();
  }

  void write(const Collective& collective, Cause cause, Span span) {
    slice(track_of(cause), "all_gather", "collective", span,
          {{"bytes", schedule_.instances[index(collective.output)].bytes}});
  }

  // Only what holds the computation up: waits of different queues would overlap on one track.
  void write(const Wait& wait, Cause, Span span) {
    if (!is_timed_ || span.length <= 0 || wait.queue != Queue::compute) return;
    slice(Track::waits, "waiting for a copy", "wait", span, {{"queue", key(wait.queue)}});
  }

  void write(const Allocate&, Cause, Span) {}
  void write(const Free&, Cause, Span) {}

  struct Pending {
    std::size_t number = 0;
    double end = 0;
  };
  const StepTrace& trace_;
  const Schedule& schedule_;
  bool is_timed_ = false;
  Bytes live_ = 0;
  Bytes host_ = 0;
  std::optional<Bytes> last_live_;
  std::optional<Bytes> last_host_;
  const MemoryTimeline* allocator_ = nullptr;  // nullptr: a device without one
  std::optional<Bytes> last_allocated_;
  std::optional<Bytes> last_reserved_;
  std::size_t arrows_ = 0;
  std::vector<std::optional<Pending>> offloads_;  // by storage: not fetched yet
  std::vector<Json> events_;
};

class PerfettoExporter final : public Exporter {
 public:
  [[nodiscard]] std::string_view name() const override { return "perfetto"; }
  [[nodiscard]] std::string_view description() const override {
    return "one row's schedule as a Chrome trace, for ui.perfetto.dev";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    const StepTrace& trace = kept_trace(source);
    const std::size_t row = chosen_row(source);
    const RowDetail& detail = kept_detail(source, row);
    TraceWriter writer(trace, detail);
    replay(trace, detail.schedule, writer);
    const std::string setting = for_people(describe(detail.row));
    Json document;
    document["displayTimeUnit"] = "ms";
    document["otherData"] = {
        {"setting", setting},
        {"row", row},
        {"model", source.sweep().provenance.model},
        {"times", writer.is_timed() ? "predicted" : "none known: a microsecond each"}};
    document["traceEvents"] = writer.finish("tidemark: " + setting);
    out << document.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
};

}  // namespace

const Exporter& perfetto_exporter() {
  static const PerfettoExporter exporter;
  return exporter;
}

}  // namespace tidemark
