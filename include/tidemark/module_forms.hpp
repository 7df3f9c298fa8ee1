// What of a plan over single operators a framework can be told: groups of modules, and in each the
// operators whose results are kept (PyTorch's selective activation checkpointing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/planner.hpp"
#include "tidemark/report.hpp"

namespace tidemark {

// The calls of one operator within a segment's forward, counted from 0; those of its in-place form
// ("aten::add_") among them.
struct OperatorCalls {
  std::string name;      // "aten::addmm"
  std::string overload;  // "" is the default overload
  std::int32_t count = 0;
  std::vector<std::int32_t> kept;  // the calls whose results are kept
  bool operator==(const OperatorCalls&) const = default;
};

// Segments under non-reentrant checkpoints that run again all but the kept operators.
struct SelectiveForm {
  std::vector<std::vector<std::string>> segments;
  std::vector<std::vector<OperatorCalls>> operators;  // by segment
  StepFigures predicted;
  bool operator==(const SelectiveForm&) const = default;
};

struct ModuleForms {
  // No checkpointing, and every grouping of the blocks in both methods, predicted; `fits` is
  // against the plan's budget. Empty where the step's blocks are no modules.
  std::vector<SweepRow> rows;
  // The row or the selective form that stands for the plan: the fastest within its budget. At most
  // one of the two is there; neither: no framework can be told a setting that keeps the budget.
  std::optional<std::size_t> row;
  std::optional<SelectiveForm> selective;
  bool is_exact = false;    // the plan's schedule is that row's
  std::string block_class;  // without its path; empty: the blocks have several
  bool operator==(const ModuleForms&) const = default;
};

// Cost: some dozens of simulations.
[[nodiscard]] ModuleForms module_forms(const StepTrace& trace, const PlanRequest& request,
                                       const Plan& plan);

}  // namespace tidemark
