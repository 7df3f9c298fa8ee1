// The judge of every schedule. It shares no code with the simulator or a builder, and prefers being
// obvious to being fast.
#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/schedule.hpp"

namespace tidemark {

namespace {

// Bytes [at, at + bytes) of an instance hold bytes [source, source + bytes) of its storage, as they
// were after `version` of the storage's writers.
struct Piece {
  Bytes at;
  Bytes bytes;
  Bytes source;
  int version;
};

// Use of an instance by a copy on a side queue; it lasts until somebody waits for that copy.
struct SideUse {
  std::size_t step;
  Queue queue;
};

enum class Life { unborn, alive, dead };

struct InstanceState {
  Life life = Life::unborn;
  std::vector<Piece> pieces;  // what is defined, ascending and apart
  std::vector<SideUse> copies_in;
  std::vector<SideUse> copies_out;
};

// By queue: every step before this position that ran on it is surely done.
using DoneBefore = std::array<std::size_t, queue_count>;

std::size_t position(Queue queue) { return static_cast<std::size_t>(queue); }

// What lies in [begin, end) of an instance.
std::vector<Piece> cut(const std::vector<Piece>& pieces, Bytes begin, Bytes end) {
  std::vector<Piece> parts;
  for (const Piece& piece : pieces) {
    const Bytes first = std::max(piece.at, begin);
    const Bytes last = std::min(piece.at + piece.bytes, end);
    const bool is_empty_storage = begin == end && first == last;
    if (first >= last && !is_empty_storage) continue;
    parts.push_back({first, last - first, piece.source + first - piece.at, piece.version});
  }
  return parts;
}

// Puts pieces in order and joins neighbours that continue each other.
std::vector<Piece> joined(std::vector<Piece> pieces) {
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.at < b.at; });
  std::vector<Piece> result;
  for (const Piece& piece : pieces) {
    const bool continues = !result.empty() && result.back().version == piece.version &&
                           result.back().at + result.back().bytes == piece.at &&
                           result.back().source + result.back().bytes == piece.source;
    if (continues) {
      result.back().bytes += piece.bytes;
    } else {
      result.push_back(piece);
    }
  }
  return result;
}

class Judge {
 public:
  Judge(const StepTrace& trace, const Schedule& schedule)
      : trace_(trace),
        schedule_(schedule),
        runs_of_(trace.ops.size(), 0),
        existed_before_(trace.storages.size(), true),
        writers_(trace.storages.size()),
        states_(schedule.instances.size()),
        known_at_(schedule.steps.size()) {
    for (const Op& op : trace.ops) {
      for (const StorageId id : op.creates) existed_before_[index(id)] = false;
    }
    for (std::size_t o = 0; o < trace.ops.size(); ++o) {
      for (const StorageId id : trace.ops[o].writes) {
        const bool is_exempt = trace.ops[o].flags.statistics && existed_before_[index(id)];
        if (!is_exempt) writers_[index(id)].push_back(o);
      }
    }
  }

  std::vector<Violation> judge() {
    if (!instances_are_sound()) return std::move(violations_);
    begin();
    for (step_ = 0; step_ < schedule_.steps.size(); ++step_) {
      std::visit([&](const auto& action) { check(action); }, schedule_.steps[step_].action);
    }
    end();
    return std::move(violations_);
  }

 private:
  // ---- words ----
  std::string title(StorageId id) const {
    if (id == no_storage) return "a buffer of no storage";
    const std::string& name = trace_.storages[index(id)].name;
    return "storage " + std::to_string(index(id)) + (name.empty() ? "" : " (" + name + ")");
  }
  std::string title(InstanceId id) const {
    return title(instance(id).storage) + " instance " + std::to_string(instance(id).number);
  }
  std::string title(OpId id) const {
    return "operator " + std::to_string(index(id)) + " (" + trace_.ops[index(id)].name + ")";
  }
  void report(const std::string& message) { violations_.push_back({step_, message}); }

  // ---- small questions ----
  const Instance& instance(InstanceId id) const { return schedule_.instances[index(id)]; }
  InstanceState& state(InstanceId id) { return states_[index(id)]; }
  const InstanceState& state(InstanceId id) const { return states_[index(id)]; }
  bool is_alive(InstanceId id) const { return state(id).life == Life::alive; }
  bool is_listed(InstanceId id) const {
    return static_cast<std::int32_t>(id) >= 0 && index(id) < schedule_.instances.size();
  }
  bool is_static(InstanceId id) const {
    return static_cast<std::int32_t>(id) < schedule_.initial_instances;
  }
  bool is_static_storage(StorageId id) const { return existed_before_[index(id)]; }
  bool has_storage_bytes(InstanceId id) const {
    return instance(id).bytes == trace_.storages[index(instance(id).storage)].bytes;
  }
  // Statistics do not count.
  bool counts_as_writer(OpId op, StorageId storage) const {
    const std::vector<std::size_t>& writers = writers_[index(storage)];
    return std::find(writers.begin(), writers.end(), index(op)) != writers.end();
  }
  // The storage's recorded writers among the operators before this position.
  int recorded_version(StorageId storage, std::size_t before_op) const {
    const std::vector<std::size_t>& writers = writers_[index(storage)];
    return static_cast<int>(std::count_if(writers.begin(), writers.end(),
                                          [&](std::size_t writer) { return writer < before_op; }));
  }
  // Absent: not all of the storage's bytes are there, in their places and in one version.
  std::optional<int> version(InstanceId id) const {
    const std::vector<Piece>& pieces = state(id).pieces;
    const bool is_whole = has_storage_bytes(id) && pieces.size() == 1 && pieces[0].at == 0 &&
                          pieces[0].source == 0 && pieces[0].bytes == instance(id).bytes;
    return is_whole ? std::optional(pieces[0].version) : std::nullopt;
  }
  bool is_done(const std::vector<SideUse>& uses, Queue queue) const {
    return std::all_of(uses.begin(), uses.end(), [&](const SideUse& use) {
      return use.queue == queue || use.step < known_[position(queue)][position(use.queue)];
    });
  }

  bool instances_are_sound();
  void begin();
  void end();
  void check(const Run& run);
  void check(const Allocate& allocate);
  void check(const Copy& copy);
  void check(const Free& free);
  void check(const Wait& wait);
  void check(const Collective& collective);
  bool operands_agree(const Run& run) const;
  std::string wrong_operand(OpId op, InstanceId id, bool writes) const;
  std::string wrong_copy(const Copy& copy) const;
  std::string wrong_source(InstanceId id, Bytes offset, Bytes bytes, Queue queue) const;
  std::string wrong_target(InstanceId id, Queue queue) const;
  void check_first_run(OpId op);
  void create(InstanceId id);
  void paste(InstanceId from, Bytes from_offset, InstanceId to, Bytes to_offset, Bytes bytes);
  void learn(Queue queue, const DoneBefore& done);

  const StepTrace& trace_;
  const Schedule& schedule_;
  std::vector<int> runs_of_;                       // by operator
  std::vector<bool> existed_before_;               // by storage: no operator creates it
  std::vector<std::vector<std::size_t>> writers_;  // by storage: operators, ascending
  std::vector<InstanceState> states_;              // by instance
  std::array<DoneBefore, queue_count> known_{};    // by queue: what it has waited for
  std::vector<DoneBefore> known_at_;               // by step: the same, once that copy is done
  std::optional<OpId> last_ordered_;  // the furthest operator so far whose first run has an order
  std::size_t step_ = 0;
  std::vector<Violation> violations_;
};

bool Judge::instances_are_sound() {
  for (const Instance& made : schedule_.instances) {
    const auto number = static_cast<std::int32_t>(made.storage);
    if (number < -1 || number >= static_cast<std::int32_t>(trace_.storages.size())) {
      report("an instance belongs to storage " + std::to_string(number) +
             ", which the trace does not list");
    } else if (made.bytes < 0) {
      report("an instance of " + title(made.storage) + " has a negative size");
    } else if (made.storage != no_storage &&
               made.bytes > trace_.storages[index(made.storage)].bytes) {
      report("an instance of " + title(made.storage) + " is larger than its storage");
    }
  }
  return violations_.empty();
}

void Judge::begin() {
  std::vector<Instance> wanted;
  for (std::size_t s = 0; s < trace_.storages.size(); ++s) {
    if (existed_before_[s]) {
      wanted.push_back({.storage = make_id<StorageId>(s), .bytes = trace_.storages[s].bytes});
    }
  }
  const auto count = static_cast<std::size_t>(std::max(schedule_.initial_instances, 0));
  bool agree = count == wanted.size() && count <= schedule_.instances.size();
  for (std::size_t i = 0; i < std::min(count, schedule_.instances.size()); ++i) {
    const Instance& initial = schedule_.instances[i];
    agree = agree && initial.storage == wanted[i].storage && initial.bytes == wanted[i].bytes &&
            initial.place == Place::device;
    create(make_id<InstanceId>(i));
  }
  if (!agree) report("the initial instances are not the storages that exist before the step");
}

// ---- operators ----

// Each list names one instance per storage of the operator, in the same order; what it reads and
// writes in place is one instance.
bool Judge::operands_agree(const Run& run) const {
  const Op& op = trace_.ops[index(run.op)];
  const auto agree = [&](const std::vector<InstanceId>& named,
                         const std::vector<StorageId>& wanted) {
    return std::equal(named.begin(), named.end(), wanted.begin(), wanted.end(),
                      [&](InstanceId id, StorageId storage) {
                        return is_listed(id) && instance(id).storage == storage;
                      });
  };
  bool agrees = agree(run.reads, op.reads) && agree(run.writes, op.writes) &&
                run.creates.size() == op.creates.size();
  for (std::size_t i = 0; agrees && i < op.creates.size(); ++i) {
    const InstanceId id = run.creates[i];
    agrees = id == unnamed_instance || (is_listed(id) && instance(id).storage == op.creates[i]);
  }
  for (std::size_t w = 0; agrees && w < op.writes.size(); ++w) {
    for (std::size_t r = 0; r < op.reads.size(); ++r) {
      agrees = agrees && (op.reads[r] != op.writes[w] || run.reads[r] == run.writes[w]);
    }
  }
  return agrees;
}

// Empty: the operator may use it.
std::string Judge::wrong_operand(OpId op, InstanceId id, bool writes) const {
  const InstanceState& operand = state(id);
  if (!is_alive(id)) return ", which is not alive";
  if (instance(id).place != Place::device) return ", which is not on the device";
  if (!has_storage_bytes(id)) return ", which is only a slice";
  if (!is_done(operand.copies_in, Queue::compute)) return " before its copy is waited for";
  if (writes && !is_done(operand.copies_out, Queue::compute)) {
    return " while a copy still reads it";
  }
  if (!version(id)) return ", whose bytes are not defined as one version";
  const bool is_exempt = writes && !counts_as_writer(op, instance(id).storage);
  const int recorded = recorded_version(instance(id).storage, index(op));
  if (is_exempt || *version(id) == recorded) return "";
  return " in version " + std::to_string(*version(id)) + ", recorded was version " +
         std::to_string(recorded);
}

// Operators that draw random numbers or write state first run in the recorded order.
void Judge::check_first_run(OpId id) {
  const Op& op = trace_.ops[index(id)];
  const bool writes_state = std::any_of(op.writes.begin(), op.writes.end(),
                                        [&](StorageId s) { return is_static_storage(s); });
  if (!op.flags.random && !writes_state) return;
  if (last_ordered_ && index(id) < index(*last_ordered_)) {
    report(title(id) + " is random or writes state and first runs after " + title(*last_ordered_) +
           ", which followed it in the recorded step");
  } else {
    last_ordered_ = id;
  }
}

void Judge::check(const Run& run) {
  if (static_cast<std::int32_t>(run.op) < 0 || index(run.op) >= trace_.ops.size()) {
    return report("a step runs an operator that the trace does not list");
  }
  if (runs_of_[index(run.op)]++ == 0) {
    check_first_run(run.op);
  } else if (trace_.ops[index(run.op)].flags.not_recomputable) {
    report(title(run.op) + " may not run twice");
  }
  if (!operands_agree(run)) {
    return report(title(run.op) + " is given instances that are not those of its storages");
  }
  for (const InstanceId id : run.reads) {
    const std::string problem = wrong_operand(run.op, id, false);
    if (!problem.empty()) report(title(run.op) + " reads " + title(id) + problem);
  }
  for (const InstanceId id : run.writes) {
    const std::string problem = wrong_operand(run.op, id, true);
    if (!problem.empty()) report(title(run.op) + " writes " + title(id) + problem);
  }
  for (const InstanceId id : run.writes) {
    if (!counts_as_writer(run.op, instance(id).storage)) continue;
    const int version = recorded_version(instance(id).storage, index(run.op)) + 1;
    state(id).pieces = {{0, instance(id).bytes, 0, version}};
  }
  for (const InstanceId id : run.creates) {
    if (id == unnamed_instance) continue;
    if (state(id).life != Life::unborn) {
      report(title(run.op) + " creates " + title(id) + ", which was created before");
    } else if (instance(id).place != Place::device || !has_storage_bytes(id)) {
      report(title(run.op) + " creates " + title(id) + " in another size or place");
    }
    create(id);
  }
}

void Judge::create(InstanceId id) {
  state(id).life = Life::alive;
  state(id).pieces = {{0, instance(id).bytes, 0, 0}};
}

// ---- memory ----

void Judge::check(const Allocate& allocate) {
  const InstanceId id = allocate.instance;
  if (!is_listed(id)) return report("an allocation names an instance that is not listed");
  if (state(id).life != Life::unborn) {
    return report(title(id) + " is allocated although it was created before");
  }
  state(id).life = Life::alive;
}

void Judge::check(const Free& free) {
  const InstanceId id = free.instance;
  if (!is_listed(id)) return report("a free names an instance that is not listed");
  if (is_static(id)) return report(title(id) + " is static and freed");
  if (state(id).life == Life::unborn) return report(title(id) + " is freed before it is created");
  if (state(id).life == Life::dead) return report(title(id) + " is freed twice");
  if (!is_done(state(id).copies_in, Queue::compute) ||
      !is_done(state(id).copies_out, Queue::compute)) {
    report(title(id) + " is freed while a copy still uses it");
  }
  state(id).life = Life::dead;
}

// ---- copies ----

std::string Judge::wrong_source(InstanceId id, Bytes offset, Bytes bytes, Queue queue) const {
  if (!is_alive(id)) return " reads an instance that is not alive";
  if (instance(id).storage == no_storage) return " reads a buffer of no storage";
  if (offset < 0 || bytes < 0 || bytes > instance(id).bytes - offset) {
    return " reads past the end of its source";
  }
  if (!is_done(state(id).copies_in, queue)) return " reads before an earlier copy is waited for";
  Bytes defined = 0;
  const std::vector<Piece> parts = cut(state(id).pieces, offset, offset + bytes);
  for (const Piece& part : parts) defined += part.bytes;
  return parts.empty() || defined != bytes ? " reads bytes that are not defined" : "";
}

std::string Judge::wrong_target(InstanceId id, Queue queue) const {
  if (!is_alive(id)) return " writes an instance that is not alive";
  if (is_static(id)) return " overwrites static memory";
  if (!is_done(state(id).copies_in, queue) || !is_done(state(id).copies_out, queue)) {
    return " writes before an earlier copy is waited for";
  }
  return "";
}

std::string Judge::wrong_copy(const Copy& copy) const {
  const std::string source = wrong_source(copy.from, copy.from_offset, copy.bytes, copy.queue);
  if (!source.empty()) return source;
  if (copy.from == copy.to) return " goes to its own source";
  if (instance(copy.from).storage != instance(copy.to).storage) return " goes to another storage";
  if (copy.to_offset < 0 || copy.bytes > instance(copy.to).bytes - copy.to_offset) {
    return " writes past the end of its target";
  }
  return wrong_target(copy.to, copy.queue);
}

void Judge::paste(InstanceId from, Bytes from_offset, InstanceId to, Bytes to_offset, Bytes bytes) {
  if (bytes == 0 && instance(to).bytes > 0) return;
  std::vector<Piece> pieces = cut(state(from).pieces, from_offset, from_offset + bytes);
  for (Piece& piece : pieces) piece.at += to_offset - from_offset;
  for (const auto& [begin, end] :
       {std::pair<Bytes, Bytes>(0, to_offset), {to_offset + bytes, instance(to).bytes}}) {
    const std::vector<Piece> rest = begin < end ? cut(state(to).pieces, begin, end) : pieces;
    if (begin < end) pieces.insert(pieces.end(), rest.begin(), rest.end());
  }
  state(to).pieces = joined(std::move(pieces));
}

void Judge::check(const Copy& copy) {
  if (!is_listed(copy.from) || !is_listed(copy.to)) {
    return report("a copy names an instance that is not listed");
  }
  // A copy begins when all that compute was given before it is done.
  learn(copy.queue, known_[position(Queue::compute)]);
  const std::string problem = wrong_copy(copy);
  if (!problem.empty()) {
    return report("the copy from " + title(copy.from) + " to " + title(copy.to) + problem);
  }
  paste(copy.from, copy.from_offset, copy.to, copy.to_offset, copy.bytes);
  known_at_[step_] = known_[position(copy.queue)];
  known_at_[step_][position(copy.queue)] = step_ + 1;
  if (copy.queue == Queue::compute) return;
  state(copy.from).copies_out.push_back({step_, copy.queue});
  state(copy.to).copies_in.push_back({step_, copy.queue});
}

void Judge::check(const Collective& collective) {
  const InstanceId to = collective.output;
  if (!is_listed(to)) return report("a gather names an instance that is not listed");
  const std::string what = "the gather into " + title(to);
  const std::string wrong = wrong_target(to, Queue::compute);
  if (!wrong.empty()) return report(what + wrong);
  if (instance(to).place != Place::device) return report(what + " writes outside the device");
  Bytes offset = 0;
  for (const InstanceId id : collective.inputs) {
    if (!is_listed(id)) return report(what + " names an instance that is not listed");
    const Bytes bytes = instance(id).bytes;
    const std::string problem = wrong_source(id, 0, bytes, Queue::compute);
    if (!problem.empty()) return report(what + problem);
    if (instance(id).storage != instance(to).storage) return report(what + " reads another storage");
    if (instance(id).place != Place::device && instance(id).place != Place::peer) {
      return report(what + " reads outside the devices");
    }
    if (id == to || bytes > instance(to).bytes - offset) {
      return report(what + " is given more bytes than fit");
    }
    paste(id, 0, to, offset, bytes);
    offset += bytes;
  }
  if (offset != instance(to).bytes) report(what + " leaves bytes undefined");
}

void Judge::learn(Queue queue, const DoneBefore& done) {
  for (std::size_t q = 0; q < queue_count; ++q) {
    known_[position(queue)][q] = std::max(known_[position(queue)][q], done[q]);
  }
}

// Only copies tell about side queues; everything else runs on compute.
void Judge::check(const Wait& wait) {
  if (static_cast<std::int32_t>(wait.event) < 0 || index(wait.event) >= step_) {
    return report("a wait names a step that does not come before it");
  }
  learn(wait.queue, known_at_[index(wait.event)]);
}

// ---- the end ----

void Judge::end() {
  for (std::size_t o = 0; o < trace_.ops.size(); ++o) {
    if (runs_of_[o] == 0) report(title(make_id<OpId>(o)) + " never runs");
  }
  const auto is_final = [&](InstanceId id, StorageId storage) {
    return is_alive(id) && instance(id).storage == storage && instance(id).place == Place::device &&
           is_done(state(id).copies_in, Queue::compute) &&
           version(id) == recorded_version(storage, trace_.ops.size());
  };
  for (const StorageId kept : trace_.keep) {
    bool is_there = false;
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      is_there = is_there || is_final(make_id<InstanceId>(i), kept);
    }
    if (!is_there) report(title(kept) + " must outlive the step and does not");
  }
  for (std::size_t i = 0; i < states_.size() && is_static(make_id<InstanceId>(i)); ++i) {
    const auto id = make_id<InstanceId>(i);
    if (instance(id).storage != no_storage && !is_final(id, instance(id).storage)) {
      report(title(instance(id).storage) + " existed before the step and is left in an old version");
    }
  }
}

}  // namespace

std::vector<Violation> validate(const StepTrace& trace, const Schedule& schedule) {
  return Judge(trace, schedule).judge();
}

}  // namespace tidemark
