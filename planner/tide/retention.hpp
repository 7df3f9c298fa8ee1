// Which values are held between the positions at which they are present, and what follows from it:
// the operators that run again, the levels of memory, the time. A change is evaluated in time that
// depends on the operators that run again around it, not on the length of the step.
//
//   value v:   made       read           read in backward
//              2 ========= 5 . . . . . . . 31 ====== 33        = held    . not held
//
// A value that is used where it is not held is rebuilt right before: its creator and writers run
// again, and whatever they read and is not held either, in the recorded order. What was run again
// at a position may be held from there on, for later uses.
#pragma once

#include <cstdint>
#include <vector>

#include "level_tree.hpp"
#include "step_graph.hpp"

namespace tidemark::tide {

// Where a value is present, and whether it is held from there to the next such position.
struct Presence {
  Position at = 0;
  bool is_used = false;  // else it was only made there, as a further result of what runs again
  bool is_held = false;
  bool is_moved = false;    // goes to the host from here: never held
  bool is_fetched = false;  // comes back from the host right before
  bool operator==(const Presence&) const = default;
};

// A value that lies on the host for a while. Where it is there is fixed: no change of the plan
// moves it, and what needs it meanwhile makes it again. All positions but the first are meant at
// their beginning, before anything runs there.
struct Offload {
  ValueId value = -1;
  Position after = 0;    // the copy to the host follows this position's operator, its last use
  Position freed = 0;    // the copy is done and the device's bytes are free
  Position fetched = 0;  // the device's bytes are taken again and the copy back begins
  Position back = 0;     // the copy is done and the value is there
  bool operator==(const Offload&) const = default;
};

class Retention {
 public:
  // Everything held from its creation to its last use, but for what lies on the host.
  explicit Retention(const StepGraph& graph, std::vector<Offload> offloads = {});

  [[nodiscard]] const std::vector<Offload>& offloads() const { return offloads_; }

  [[nodiscard]] const StepGraph& graph() const { return *graph_; }
  [[nodiscard]] std::int64_t repeated_nanoseconds() const { return repeated_; }
  [[nodiscard]] Bytes peak() const { return graph_->static_bytes() + levels_.highest(); }
  [[nodiscard]] Position peak_position() const { return levels_.highest_position(); }
  [[nodiscard]] Bytes level(Position p) const { return graph_->static_bytes() + levels_.at(p); }
  [[nodiscard]] Bytes highest_level(Position first, Position last) const {
    return graph_->static_bytes() + levels_.highest_in(first, last);
  }
  [[nodiscard]] const std::vector<Presence>& presences(ValueId v) const {
    return presences_[static_cast<std::size_t>(v)];
  }
  // The operators that run again right before position p, in order.
  [[nodiscard]] const std::vector<Position>& repeated_at(Position p) const {
    return repeated_at_[static_cast<std::size_t>(p)];
  }
  // The presence from which the value is held (or fetched) into position p; -1: it is not there.
  [[nodiscard]] std::ptrdiff_t held_into(ValueId v, Position p) const;

  // Positions looked at so far, those of operators that run again included: a measure of effort.
  [[nodiscard]] std::int64_t work() const { return work_; }

  // Changes are made from a mark on, and undone back to it; marks nest. Nothing can be undone
  // beyond forget().
  struct Mark {
    std::size_t values = 0;
    std::size_t positions = 0;
    std::size_t levels = 0;
    std::int64_t repeated = 0;
  };
  [[nodiscard]] Mark mark();
  void undo(const Mark& mark);
  void forget();

  // Holds (or not) the value from its presence number `from` to number `to`; settle() works out
  // what follows.
  void set_held(ValueId v, std::size_t from, std::size_t to, bool is_held);
  // False: something would have to run again that may not; then the changes must be undone. With
  // `holds_repeated`, what is newly run again is held until its next use.
  [[nodiscard]] bool settle(bool holds_repeated = false);

 private:
  struct SavedValue {
    ValueId value;
    std::vector<Presence> presences;
  };
  struct SavedPosition {
    Position position;
    std::vector<Position> repeated;
    std::vector<ValueId> present;
    Bytes rise;
  };
  struct SavedLevel {
    Position first;
    Position last;
    Bytes bytes;
  };

  void take_to_host(const Offload& offload);
  [[nodiscard]] bool rebuild(Position p);
  [[nodiscard]] bool find_repeated(Position p);
  [[nodiscard]] bool repeat_for(ValueId v, Position p);
  void update_presences(Position p);
  void insert_presence(ValueId v, Position p, bool is_used);
  void remove_presence(ValueId v, Position p);
  void measure(Position p);
  void add_level(Position first, Position last, Bytes bytes);
  void save(ValueId v);
  void save_position(Position p);
  void mark_dirty(Position p);
  std::vector<Presence>& presences_of(ValueId v) { return presences_[static_cast<std::size_t>(v)]; }

  const StepGraph* graph_;
  std::vector<Offload> offloads_;
  std::vector<std::vector<Presence>> presences_;    // by value
  std::vector<std::vector<Position>> repeated_at_;  // by position
  std::vector<std::vector<ValueId>> present_at_;    // by position: entries made for it, ascending
  std::vector<Bytes> rise_;                         // by position: above what is held into it
  LevelTree levels_;
  std::int64_t repeated_ = 0;
  std::int64_t work_ = 0;

  // What undo() puts back.
  std::vector<SavedValue> saved_values_;
  std::vector<SavedPosition> saved_positions_;
  std::vector<SavedLevel> saved_levels_;
  std::vector<std::uint32_t> value_stamp_;
  std::vector<std::uint32_t> position_stamp_;
  std::uint32_t stamp_ = 0;
  std::vector<Position> dirty_;  // a heap, the first position on top
  std::vector<char> is_dirty_;
  bool holds_repeated_ = false;

  // Room for rebuild(), cleared after use.
  std::vector<char> is_repeated_;  // by position of the operator
  std::vector<Position> repeated_now_;
  std::vector<std::pair<ValueId, bool>> present_now_;  // with whether it is used
  std::vector<std::uint32_t> mark_;                    // by value
  std::vector<std::int32_t> last_use_;                 // by value
  std::uint32_t mark_stamp_ = 0;
};

}  // namespace tidemark::tide
