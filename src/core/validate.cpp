// The judge of every schedule. It shares no code with the simulator or a builder, and prefers being
// obvious to being fast.
#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/schedule.hpp"

namespace tidemark {

namespace {

// What the judge knows of an instance that is alive.
struct Alive {
  // Number of the storage's writers run on it; absent: its bytes are not (all) defined.
  std::optional<int> version;
  // Defined byte ranges of a partly copied instance, with the version of the parts.
  std::map<Bytes, Bytes> parts;
  std::optional<int> parts_version;
  // Side-queue copies into it and out of it that compute has not waited for: (step, queue).
  std::set<std::pair<std::size_t, Queue>> written_by;
  std::set<std::pair<std::size_t, Queue>> read_by;
};

class Judge {
 public:
  Judge(const StepTrace& trace, const Schedule& schedule)
      : trace_(trace),
        schedule_(schedule),
        runs_of_(trace.ops.size(), 0),
        is_created_(trace.storages.size(), false),
        writers_(trace.storages.size()) {
    for (const Op& op : trace.ops) {
      for (const StorageId id : op.creates) is_created_[index(id)] = true;
    }
    for (std::size_t o = 0; o < trace.ops.size(); ++o) {
      for (const StorageId id : trace.ops[o].writes) {
        const bool is_exempt = trace.ops[o].flags.statistics && existed_before(id);
        if (!is_exempt) writers_[index(id)].push_back(o);
      }
    }
  }

  std::vector<Violation> judge() {
    begin();
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
      std::visit([&](const auto& action) { check(action); }, schedule_.steps[step_].action);
    }
    end();
    return std::move(violations_);
  }

 private:
  // ---- words for messages ----
  std::string title(StorageId id) const {
    if (id == no_storage) return "a buffer of no storage";
    const std::string& name = trace_.storages[index(id)].name;
    return "storage " + std::to_string(index(id)) + (name.empty() ? "" : " (" + name + ")");
  }
  std::string title(InstanceId id) const {
    const Instance& instance = schedule_.instances[index(id)];
    return title(instance.storage) + " instance " + std::to_string(instance.number);
  }
  std::string title(OpId id) const {
    return "operator " + std::to_string(index(id)) + " (" + trace_.ops[index(id)].name + ")";
  }
  void report(const std::string& message) { violations_.push_back({step_, message}); }

  // ---- small questions ----
  bool is_known(InstanceId id) {
    const bool is_in_range =
        static_cast<std::int32_t>(id) >= 0 && index(id) < schedule_.instances.size();
    if (!is_in_range) report("a step names an instance that the schedule does not list");
    return is_in_range;
  }
  bool is_alive(InstanceId id) const { return alive_.contains(id); }
  const Instance& instance(InstanceId id) const { return schedule_.instances[index(id)]; }
  bool is_static(InstanceId id) const {
    return static_cast<std::int32_t>(id) < schedule_.initial_instances;
  }
  // The storage's recorded writers that come before the operator; statistics do not count.
  int recorded_version(StorageId storage, std::size_t before_op) const {
    const std::vector<std::size_t>& writers = writers_[index(storage)];
    return static_cast<int>(std::count_if(writers.begin(), writers.end(),
                                          [&](std::size_t writer) { return writer < before_op; }));
  }
  bool counts_as_writer(std::size_t op, StorageId storage) const {
    const std::vector<std::size_t>& writers = writers_[index(storage)];
    return std::find(writers.begin(), writers.end(), op) != writers.end();
  }
  bool existed_before(StorageId storage) const { return !is_created_[index(storage)]; }
  // Side-queue copies that `queue` has not waited for.
  static bool is_pending(const std::set<std::pair<std::size_t, Queue>>& copies, Queue queue) {
    return std::any_of(copies.begin(), copies.end(),
                       [&](const auto& copy) { return copy.second != queue; });
  }

  void begin();
  void check(const Run& run);
  void check(const Allocate& allocate);
  void check(const Copy& copy);
  void check(const Free& free);
  void check(const Wait& wait);
  void check(const Collective& collective);
  void end();
  bool operands_agree(const Run& run);
  void check_operand(const Run& run, InstanceId id, const char* verb);
  void check_first_run(OpId id);
  void check_no_grad(const Run& run);
  void define(InstanceId to, Bytes offset, Bytes bytes, std::optional<int> version);
  bool range_is_defined(InstanceId from, Bytes offset, Bytes bytes) const;

  const StepTrace& trace_;
  const Schedule& schedule_;
  std::vector<int> runs_of_;
  std::vector<bool> is_created_;                   // by storage: by some operator
  std::vector<std::vector<std::size_t>> writers_;  // by storage: operators, ascending
  std::map<InstanceId, Alive> alive_;
  std::set<InstanceId> was_alive_;
  OpId last_ordered_op_{-1};
  std::size_t step_ = 0;
  std::vector<Violation> violations_;
};

void Judge::begin() {
  std::vector<StorageId> expected;
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    if (existed_before(make_id<StorageId>(s))) expected.push_back(make_id<StorageId>(s));
  }
  const auto count = static_cast<std::size_t>(std::max(schedule_.initial_instances, 0));
  bool agree = count == expected.size() && count <= schedule_.instances.size();
  for (std::size_t i = 0; agree && i < count; ++i) {
    const Instance& initial = schedule_.instances[i];
    agree = initial.storage == expected[i] && initial.place == Place::device &&
            initial.bytes == trace_.storages[index(expected[i])].bytes;
    alive_[make_id<InstanceId>(i)].version = 0;
  }
  if (!agree) report("the initial instances are not the storages that exist before the step");
}

// Each list names one instance per storage of the operator, in the same order.
bool Judge::operands_agree(const Run& run) {
  const Op& op = trace_.ops[index(run.op)];
  const auto agree = [&](const std::vector<InstanceId>& named, const std::vector<StorageId>& wanted,
                         bool may_be_unnamed) {
    if (named.size() != wanted.size()) return false;
    for (std::size_t i = 0; i < named.size(); ++i) {
      if (may_be_unnamed && named[i] == unnamed_instance) continue;
      if (!is_known(named[i]) || instance(named[i]).storage != wanted[i]) return false;
    }
    return true;
  };
  return agree(run.reads, op.reads, false) && agree(run.writes, op.writes, false) &&
         agree(run.creates, op.creates, true);
}

void Judge::check_operand(const Run& run, InstanceId id, const char* verb) {
  const std::string what = title(run.op) + " " + verb + " " + title(id);
  if (!is_alive(id)) return report(what + ", which is not alive");
  const Alive& state = alive_[id];
  const Instance& operand = instance(id);
  if (operand.place != Place::device) return report(what + ", which is not on the device");
  if (operand.bytes != trace_.storages[index(operand.storage)].bytes) {
    return report(what + ", which is only a slice");
  }
  if (is_pending(state.written_by, Queue::compute)) {
    return report(what + " before its copy is waited for");
  }
  const bool writes = verb == std::string("writes");
  if (writes && is_pending(state.read_by, Queue::compute)) {
    return report(what + " while a copy still reads it");
  }
  if (!state.version) {
    const Op& op = trace_.ops[index(run.op)];
    const bool overwrites =
        writes && std::find(op.reads.begin(), op.reads.end(), operand.storage) == op.reads.end();
    if (!overwrites) report(what + ", whose bytes are not defined");
    return;
  }
  const int wanted = recorded_version(operand.storage, index(run.op));
  if (writes && !counts_as_writer(index(run.op), operand.storage)) return;
  if (*state.version != wanted) {
    report(what + " in version " + std::to_string(*state.version) + ", recorded was version " +
           std::to_string(wanted));
  }
}

// Operators that draw random numbers or write state first run in the recorded order.
void Judge::check_first_run(OpId id) {
  const Op& op = trace_.ops[index(id)];
  const bool writes_state = std::any_of(op.writes.begin(), op.writes.end(),
                                        [&](StorageId s) { return existed_before(s); });
  if (!op.flags.random && !writes_state) return;
  if (static_cast<std::int32_t>(id) < static_cast<std::int32_t>(last_ordered_op_)) {
    report(title(id) + " is random or writes state and first runs after " +
           title(last_ordered_op_) + ", which followed it in the recorded step");
  }
  last_ordered_op_ = std::max(last_ordered_op_, id);
}

void Judge::check_no_grad(const Run& run) {
  const Op& op = trace_.ops[index(run.op)];
  if (!op.no_grad) return report(title(run.op) + " has no form of its own with gradients off");
  for (const StorageId omitted : op.no_grad->omits) {
    const auto position = std::find(op.creates.begin(), op.creates.end(), omitted);
    const auto place = static_cast<std::size_t>(position - op.creates.begin());
    if (place < run.creates.size() && run.creates[place] != unnamed_instance) {
      report(title(run.op) + " runs with gradients off, where it does not make " + title(omitted));
    }
  }
}

void Judge::check(const Run& run) {
  if (static_cast<std::int32_t>(run.op) < 0 || index(run.op) >= trace_.ops.size()) {
    return report("a step runs an operator that the trace does not list");
  }
  const Op& op = trace_.ops[index(run.op)];
  if (!operands_agree(run)) {
    return report(title(run.op) + " is given instances that are not those of its storages");
  }
  if (run.gradients == Gradients::off) check_no_grad(run);
  for (const InstanceId id : run.reads) check_operand(run, id, "reads");
  for (const InstanceId id : run.writes) check_operand(run, id, "writes");
  for (const InstanceId id : run.writes) {
    if (!is_alive(id) || !counts_as_writer(index(run.op), instance(id).storage)) continue;
    alive_[id].version = recorded_version(instance(id).storage, index(run.op)) + 1;
  }
  for (const InstanceId id : run.creates) {
    if (id == unnamed_instance) continue;
    const Instance& made = instance(id);
    if (was_alive_.contains(id) || is_alive(id)) {
      report(title(run.op) + " creates " + title(id) + ", which was created before");
    }
    if (made.place != Place::device || made.bytes != trace_.storages[index(made.storage)].bytes) {
      report(title(run.op) + " creates " + title(id) + " in another size or place");
    }
    alive_[id].version = 0;
    was_alive_.insert(id);
  }
  if (runs_of_[index(run.op)] == 0) check_first_run(run.op);
  if (++runs_of_[index(run.op)] > 1 && op.flags.not_recomputable) {
    report(title(run.op) + " may not run twice");
  }
}

void Judge::check(const Allocate& allocate) {
  if (!is_known(allocate.instance)) return;
  const Instance& made = instance(allocate.instance);
  if (was_alive_.contains(allocate.instance) || is_alive(allocate.instance)) {
    return report(title(allocate.instance) + " is allocated although it was created before");
  }
  if (made.bytes < 0) report(title(allocate.instance) + " has a negative size");
  alive_[allocate.instance] = Alive{};
  was_alive_.insert(allocate.instance);
}

bool Judge::range_is_defined(InstanceId from, Bytes offset, Bytes bytes) const {
  const Alive& state = alive_.at(from);
  if (state.version) return true;
  return std::any_of(state.parts.begin(), state.parts.end(), [&](const auto& part) {
    return part.first <= offset && offset + bytes <= part.second;
  });
}

// Bytes [offset, offset + bytes) now hold `version`; once all do, so does the instance.
void Judge::define(InstanceId to, Bytes offset, Bytes bytes, std::optional<int> version) {
  Alive& state = alive_[to];
  if (offset == 0 && bytes == instance(to).bytes) {
    state.version = version;
    return;
  }
  if (!state.parts.empty() && state.parts_version != version) {
    report(title(to) + " is put together from parts of different versions");
  }
  state.version.reset();
  state.parts_version = version;
  state.parts[offset] = offset + bytes;
  Bytes covered = 0;
  for (const auto& [begin, end] : state.parts) {
    if (begin <= covered) covered = std::max(covered, end);
  }
  if (covered == instance(to).bytes) state.version = version;
}

void Judge::check(const Copy& copy) {
  if (!is_known(copy.from) || !is_known(copy.to)) return;
  const std::string what = "the copy from " + title(copy.from) + " to " + title(copy.to);
  if (!is_alive(copy.from)) return report(what + " reads an instance that is not alive");
  if (!is_alive(copy.to)) return report(what + " writes an instance that is not alive");
  if (instance(copy.from).storage != instance(copy.to).storage) {
    return report(what + " goes to another storage");
  }
  if (is_static(copy.to)) return report(what + " overwrites static memory");
  const bool fits = copy.bytes >= 0 && copy.from_offset >= 0 && copy.to_offset >= 0 &&
                    copy.from_offset + copy.bytes <= instance(copy.from).bytes &&
                    copy.to_offset + copy.bytes <= instance(copy.to).bytes;
  if (!fits) return report(what + " leaves the bytes of one of them");
  if (!range_is_defined(copy.from, copy.from_offset, copy.bytes)) {
    return report(what + " reads bytes that are not defined");
  }
  Alive& from = alive_[copy.from];
  Alive& to = alive_[copy.to];
  if (is_pending(from.written_by, copy.queue) || is_pending(to.written_by, copy.queue) ||
      is_pending(to.read_by, copy.queue)) {
    return report(what + " starts before an earlier copy is waited for");
  }
  define(copy.to, copy.to_offset, copy.bytes, from.version ? from.version : from.parts_version);
  if (copy.queue == Queue::compute) return;
  from.read_by.insert({step_, copy.queue});
  to.written_by.insert({step_, copy.queue});
}

void Judge::check(const Free& free) {
  if (!is_known(free.instance)) return;
  if (is_static(free.instance)) return report(title(free.instance) + " is static and freed");
  if (!is_alive(free.instance)) {
    return report(title(free.instance) + (was_alive_.contains(free.instance)
                                              ? " is freed twice"
                                              : " is freed before it is created"));
  }
  const Alive& state = alive_[free.instance];
  if (is_pending(state.read_by, Queue::compute) || is_pending(state.written_by, Queue::compute)) {
    report(title(free.instance) + " is freed while a copy still uses it");
  }
  alive_.erase(free.instance);
}

void Judge::check(const Wait& wait) {
  if (static_cast<std::int32_t>(wait.event) < 0 || index(wait.event) >= step_) {
    return report("a wait names a step that does not come before it");
  }
  const auto* copy = std::get_if<Copy>(&schedule_.steps[index(wait.event)].action);
  if (copy == nullptr || wait.queue != Queue::compute) return;
  // Queues run in order: that copy's queue has done everything before it too.
  for (auto& [id, state] : alive_) {
    const auto is_done = [&](const auto& pending) {
      return pending.second == copy->queue && pending.first <= index(wait.event);
    };
    std::erase_if(state.written_by, is_done);
    std::erase_if(state.read_by, is_done);
  }
}

void Judge::check(const Collective& collective) {
  if (!is_known(collective.output)) return;
  const std::string what = "the gather into " + title(collective.output);
  if (!is_alive(collective.output)) return report(what + " writes an instance that is not alive");
  if (is_static(collective.output)) return report(what + " overwrites static memory");
  Bytes offset = 0;
  for (const InstanceId id : collective.inputs) {
    if (!is_known(id)) return;
    if (!is_alive(id)) return report(what + " reads an instance that is not alive");
    const Instance& part = instance(id);
    if (part.storage != instance(collective.output).storage) {
      return report(what + " reads another storage");
    }
    if (is_pending(alive_[id].written_by, Queue::compute)) {
      return report(what + " reads " + title(id) + " before its copy is waited for");
    }
    if (!range_is_defined(id, 0, part.bytes)) {
      return report(what + " reads bytes that are not defined");
    }
    if (offset + part.bytes > instance(collective.output).bytes) {
      return report(what + " has more bytes than fit");
    }
    define(collective.output, offset, part.bytes, alive_[id].version);
    offset += part.bytes;
  }
  if (offset != instance(collective.output).bytes) report(what + " leaves bytes undefined");
}

void Judge::end() {
  for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
    if (runs_of_[o] == 0) report(title(make_id<OpId>(o)) + " never runs");
  }
  for (const StorageId kept : trace_.keep) {
    const int wanted = recorded_version(kept, trace_.ops.size());
    const bool is_there = std::any_of(alive_.begin(), alive_.end(), [&](const auto& entry) {
      const Instance& candidate = instance(entry.first);
      return candidate.storage == kept && candidate.place == Place::device &&
             entry.second.version == wanted && !is_pending(entry.second.written_by, Queue::compute);
    });
    if (!is_there) report(title(kept) + " must outlive the step and does not");
  }
}

}  // namespace

std::vector<Violation> validate(const StepTrace& trace, const Schedule& schedule) {
  return Judge(trace, schedule).judge();
}

}  // namespace tidemark
