// Search over retention plans: fit one into a budget, fill what is left of the budget, improve by
// large-neighbourhood search. Deterministic; work is counted in positions looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "resident_cut.hpp"
#include "retention.hpp"
#include "tidemark/planner.hpp"

namespace tidemark::tide {

class Search {
 public:
  // `should_stop` is asked from time to time; once true, everything returns soon.
  Search(const StepGraph& graph, std::function<bool()> should_stop);

  // The plan whose residents at the cut's moment are those of its last solve: the rest is made
  // again at its first later use, and held from there on or made again for each use. Null:
  // something may not be made again.
  enum class Repeated : std::uint8_t { held, dropped };
  [[nodiscard]] std::unique_ptr<Retention> from_cut(const ResidentCut& cut,
                                                    Repeated repeated) const;
  // The nearest retention plan to a schedule of another planner. Null: there is none.
  [[nodiscard]] std::unique_ptr<Retention> from_schedule(const Schedule& schedule) const;

  // Stops holding the cheapest values at the highest level until it keeps the budget. False: it
  // found no way with so much work; then the plan holds what was reached.
  [[nodiscard]] bool fit(Retention& plan, Bytes budget, std::int64_t work);
  // Holds what still fits.
  void fill(Retention& plan, Bytes budget);
  // Never slower, still within the budget.
  void improve(Retention& plan, Bytes budget, std::int64_t work);

  [[nodiscard]] bool is_stopped();

 private:
  struct Gap {
    ValueId value = -1;
    std::size_t from = 0;
  };
  struct Candidate {
    double score = 0;
    Gap gap;
    double factor = 1;  // of its estimate, by chance
  };

  [[nodiscard]] bool lower(Retention& plan, Bytes budget);
  [[nodiscard]] std::optional<Gap> gap_over(const Retention& plan, ValueId v, Position p) const;
  void find_candidates(const Retention& plan, Position p);
  void order_candidates(const Retention& plan, Position p, Bytes overflow);
  void explore(Retention& plan, Bytes budget);
  [[nodiscard]] bool try_neighbour(Retention& plan, Bytes budget);
  [[nodiscard]] bool hold_some(Retention& plan);
  [[nodiscard]] bool hold(Retention& plan, Gap gap);
  [[nodiscard]] std::optional<Candidate> saving(Retention& plan, Bytes budget, Gap gap);
  [[nodiscard]] bool fill_once(Retention& plan, Bytes budget);
  bool try_hold(Retention& plan, Bytes budget, Gap gap);
  [[nodiscard]] Gap some_rebuilt(const Retention& plan);
  [[nodiscard]] Gap rebuilt_near(const Retention& plan, ValueId v);
  void refill(Retention& plan, Bytes budget);
  [[nodiscard]] std::size_t below(std::size_t limit) {
    return static_cast<std::size_t>(random_() % limit);
  }

  const StepGraph& graph_;
  std::function<bool()> should_stop_;
  bool is_stopped_ = false;
  std::uint32_t until_next_question_ = 0;
  std::mt19937_64 random_{1};
  std::vector<ValueId> values_;        // those that are not static, by creator
  std::vector<std::size_t> index_of_;  // by value: in values_
  std::vector<double> estimate_;       // by value: nanoseconds for not holding it, as last seen
  std::int64_t scanned_ = 0;           // values looked at while searching
  double noise_ = 0;                   // of the estimates, relative
  std::vector<Gap> dropped_;           // by the last fit
  std::vector<Candidate> candidates_;  // of the present fit
};

}  // namespace tidemark::tide
