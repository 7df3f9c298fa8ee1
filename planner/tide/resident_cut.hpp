// One moment of the step, with the memory it leaves, as a minimum cut.
//
// When an operator runs for the first time, everything that is needed later and was made before is
// either resident, which takes bytes, or will be made again, which takes time and needs its own
// operands, resident or made again in turn. With a price per byte, the cheapest choice is a minimum
// cut; its value less the price of the free bytes bounds the time of every schedule from below
// (Lagrangian relaxation), and its residents are a good plan's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "min_cut.hpp"
#include "retention.hpp"
#include "step_graph.hpp"

namespace tidemark::tide {

// Which operators count as before and after the moment.
enum class Order : std::uint8_t {
  recorded,  // as recorded: what our plans keep to
  any,       // what every schedule that computes the same must keep to
};

class ResidentCut {
 public:
  // What is offloaded over the moment is there at no price.
  ResidentCut(const StepGraph& graph, Position moment, Order order,
              std::vector<Offload> offloads = {});

  [[nodiscard]] const std::vector<Offload>& offloads() const { return offloads_; }

  [[nodiscard]] Position moment() const { return moment_; }
  // Static memory, the operator's own operands, results and scratch: alive in any case.
  [[nodiscard]] Bytes fixed_bytes() const { return fixed_bytes_; }

  // Of the operators that run for the first time before the moment's, and after it begins.
  [[nodiscard]] double seconds_before() const;
  [[nodiscard]] double seconds_after() const;

  struct Answer {
    std::int64_t value = 0;  // in scaled nanoseconds: time of what runs again, and price of bytes
    Bytes resident_bytes = 0;
  };
  // `price` in scaled nanoseconds per byte. With a tilt, early values are dearer by up to that
  // fraction: of equally good ones those go first whose turn in backward comes last. Only an
  // answer without tilt is a bound.
  [[nodiscard]] Answer solve(double price, double tilt = 0);
  // Of the last solve: whether a value needed later stays resident.
  [[nodiscard]] bool is_resident(ValueId v) const;

  // The largest lower bound on repeated nanoseconds with so many bytes on the device, over all
  // prices; absent: no price makes it fit.
  [[nodiscard]] std::optional<double> bound(Bytes budget);
  // The bound for one price, such as the best one of another moment.
  [[nodiscard]] double bound_at(double price, Bytes budget);
  // The least price of the last bound() at which the residents fit.
  [[nodiscard]] double fitting_price() const { return fitting_price_; }
  // Makes the cheapest residents that fit into so many bytes, tilted, the last solve's. False:
  // nothing fits.
  [[nodiscard]] bool choose(Bytes budget);

 private:
  void find_before_and_after(Order order);
  void build();
  [[nodiscard]] bool may_run_again(Position x) const;
  [[nodiscard]] std::size_t value_node(ValueId v);
  [[nodiscard]] std::size_t operation_node(Position x);
  void connect_value(ValueId v);
  void connect_operation(Position x);
  // Above it nothing stays that can run again instead.
  [[nodiscard]] double highest_price() const;
  [[nodiscard]] double value_of(const Answer& answer, double price, Bytes budget) const;

  const StepGraph& graph_;
  Position moment_;
  Order order_;
  std::vector<Offload> offloads_;
  std::vector<char> is_offloaded_;  // by value: over the moment
  std::vector<char> is_before_;
  std::vector<char> is_after_;
  Bytes fixed_bytes_ = 0;
  double scale_ = 1;
  double fitting_price_ = 0;
  double chosen_price_ = 0;  // of the last choose(); 0: none yet

  struct Residency {
    ValueId value;
    std::size_t edge;
  };
  std::vector<Residency> residencies_;
  std::vector<std::int32_t> node_of_value_;      // its first node; -1: none; -2: alive anyway
  std::vector<std::int32_t> node_of_operation_;  // -1: none
  std::vector<ValueId> pending_values_;
  std::vector<Position> pending_operations_;
  std::size_t nodes_ = 2;
  MinCut cut_;
};

}  // namespace tidemark::tide
