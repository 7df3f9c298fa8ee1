#include "tidemark/module_forms.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

struct Form {
  Setting setting;
  Schedule schedule;
  StepFigures figures;
};

std::int32_t block_count(const std::vector<BlockRun>& runs) {
  return static_cast<std::int32_t>(count_blocks(runs));
}

bool are_modules(const StepTrace& trace, const std::vector<BlockRun>& runs) {
  std::set<std::string> paths;
  for (const Module& module : trace.modules) paths.insert(module.path);
  for (const BlockRun& run : runs) {
    for (const Block& block : run.blocks) {
      if (paths.count(block.name) == 0) return false;
    }
  }
  return !runs.empty();
}

// Without its path, as frameworks name it; empty: the blocks have several.
std::string class_of_blocks(const StepTrace& trace, const std::vector<BlockRun>& runs) {
  std::set<std::string> blocks;
  for (const BlockRun& run : runs) {
    for (const Block& block : run.blocks) blocks.insert(block.name);
  }
  std::set<std::string> classes;
  for (const Module& module : trace.modules) {
    if (blocks.count(module.path) == 0) continue;
    classes.insert(module.class_name.substr(module.class_name.rfind('.') + 1));
  }
  return classes.size() == 1 ? *classes.begin() : "";
}

// Absent where the framework refuses the setting.
std::optional<Form> make_form(const StepTrace& trace, const std::vector<BlockRun>& runs,
                              const Setting& setting, const SimulateOptions& simulation,
                              const BuildOptions& options = {}) {
  auto built = build_schedule(trace, runs, setting, options);
  auto* valid = std::get_if<BuiltSchedule>(&built);
  if (valid == nullptr) return std::nullopt;
  if (!validate(trace, valid->schedule).empty()) {
    // Only what is kept can break a rule: a kept result that is overwritten.
    if (!options.kept.empty()) return std::nullopt;
    throw InternalError("the schedule of " + describe(setting) + " breaks a rule");
  }
  Form form{.setting = setting, .schedule = std::move(valid->schedule), .figures = {}};
  for (const Segment& segment : valid->segments) form.setting.segments.push_back(segment.blocks);
  form.figures = simulate(trace, form.schedule, simulation).figures;
  return form;
}

Setting grouped(std::int32_t checkpoints, Method method) {
  Setting setting;
  setting.number_checkpoints = checkpoints;
  setting.method = method;
  return setting;
}

// Which forward operators a plan runs again, and whose first results it still reads afterwards.
struct Treatment {
  std::vector<char> is_run_again;
  std::vector<char> is_held;
};

Treatment treatment(const StepTrace& trace, const Schedule& schedule) {
  Treatment found{.is_run_again = std::vector<char>(trace.ops.size(), 0),
                  .is_held = std::vector<char>(trace.ops.size(), 0)};
  std::vector<std::size_t> creator(trace.storages.size(), trace.ops.size());
  for (std::size_t o = 0; o < trace.ops.size(); ++o) {
    for (const StorageId id : trace.ops[o].creates) creator[index(id)] = o;
  }
  bool is_forward = true;
  for (const Step& step : schedule.steps) {
    const auto* run = std::get_if<Run>(&step.action);
    if (run == nullptr) continue;
    const Op& op = trace.ops[index(run->op)];
    const bool is_again = step.cause == Cause::recompute;
    if (is_again) found.is_run_again[index(run->op)] = 1;
    if (op.phase != Phase::forward || is_again) is_forward = false;
    if (is_forward) continue;
    for (const InstanceId id : run->reads) {
      if (id == unnamed_instance) continue;
      const Instance& instance = schedule.instances[index(id)];
      if (instance.storage == no_storage || instance.number != 0) continue;
      const std::size_t made_by = creator[index(instance.storage)];
      if (made_by < trace.ops.size()) found.is_held[made_by] = 1;
    }
  }
  return found;
}

// PyTorch's attention adds its mask out of place while operators are watched, as a selective
// checkpoint does, and in place otherwise; so both are calls of one operator.
std::string without_underscore(const std::string& name) {
  return name.ends_with('_') ? name.substr(0, name.size() - 1) : name;
}

// Which operators of one-block segments to keep.
class Selection {
 public:
  // `whole` makes every block again as one; what it does not run again need not be kept.
  Selection(const StepTrace& trace, const std::vector<BlockRun>& runs, const Schedule& whole)
      : trace_(trace),
        segments_(make_segments(runs, block_count(runs))),
        is_run_again_(treatment(trace, whole).is_run_again) {
    std::vector<char> is_written(trace.storages.size(), 0);
    for (const Op& op : trace.ops) {
      if (op.phase != Phase::forward) continue;
      for (const StorageId id : op.writes) is_written[index(id)] = 1;
    }
    is_keepable_.assign(trace.ops.size(), 0);
    for (const Segment& segment : segments_) {
      for (std::size_t o = index(segment.first); o <= index(segment.last); ++o) {
        const Op& op = trace.ops[o];
        const bool is_overwritten =
            std::any_of(op.creates.begin(), op.creates.end(),
                        [&](StorageId id) { return is_written[index(id)] != 0; });
        is_keepable_[o] =
            op.call && is_run_again_[o] != 0 && op.writes.empty() && !is_overwritten ? 1 : 0;
      }
    }
  }

  [[nodiscard]] const std::vector<Segment>& segments() const { return segments_; }

  // Among those that can be kept: the ones for which `wants` says so, least worth keeping first.
  template <typename Wants>
  [[nodiscard]] std::vector<OpId> by_worth(const Wants& wants) const {
    std::vector<OpId> chosen;
    for (std::size_t o = 0; o < is_keepable_.size(); ++o) {
      if (is_keepable_[o] != 0 && wants(o)) chosen.push_back(make_id<OpId>(o));
    }
    std::stable_sort(chosen.begin(), chosen.end(),
                     [&](OpId a, OpId b) { return seconds_per_byte(a) < seconds_per_byte(b); });
    return chosen;
  }

  // A checkpoint restores the generator to where the segment began, so an operator that draws may
  // be kept only if all that draw after it in its segment are.
  [[nodiscard]] std::vector<OpId> without_broken_draws(const std::vector<OpId>& kept) const {
    std::set<OpId> set(kept.begin(), kept.end());
    for (const Segment& segment : segments_) {
      bool draws_again_later = false;
      for (std::size_t o = index(segment.last) + 1; o-- > index(segment.first);) {
        if (!trace_.ops[o].flags.random || is_run_again_[o] == 0) continue;
        if (draws_again_later) set.erase(make_id<OpId>(o));
        draws_again_later = draws_again_later || set.count(make_id<OpId>(o)) == 0;
      }
    }
    return {set.begin(), set.end()};
  }

  [[nodiscard]] std::vector<std::vector<OperatorCalls>> calls(const std::vector<OpId>& kept) const {
    const std::set<OpId> set(kept.begin(), kept.end());
    std::vector<std::vector<OperatorCalls>> all;
    for (const Segment& segment : segments_) {
      std::map<std::pair<std::string, std::string>, OperatorCalls> found;
      for (std::size_t o = index(segment.first); o <= index(segment.last); ++o) {
        const Op& op = trace_.ops[o];
        if (!op.call) continue;
        const std::string name = without_underscore(op.name);
        OperatorCalls& calls = found[{name, op.call->overload}];
        calls.name = name;
        calls.overload = op.call->overload;
        if (set.count(make_id<OpId>(o)) != 0) calls.kept.push_back(calls.count);
        ++calls.count;
      }
      all.emplace_back();
      for (auto& [key, calls] : found) {
        if (!calls.kept.empty()) all.back().push_back(std::move(calls));
      }
    }
    return all;
  }

 private:
  [[nodiscard]] double seconds_per_byte(OpId id) const {
    const Op& op = trace_.ops[index(id)];
    Bytes bytes = 1;
    for (const StorageId made : op.creates) bytes += trace_.storages[index(made)].bytes;
    return seconds(op.duration) / static_cast<double>(bytes);
  }

  const StepTrace& trace_;
  std::vector<Segment> segments_;
  std::vector<char> is_run_again_;
  std::vector<char> is_keepable_;
};

class FormFinder {
 public:
  FormFinder(const StepTrace& trace, const PlanRequest& request, const Plan& plan)
      : trace_(trace),
        request_(request),
        plan_(plan),
        budget_(request.budget_bytes.value_or(
            peak_bytes(plan.prediction.figures, request.limit).value_or(0))) {}

  ModuleForms find() {
    forms_.block_class = class_of_blocks(trace_, request_.runs);
    add_row(Setting{});
    for (const std::int32_t k : distinct_checkpoint_counts(request_.runs)) {
      for (const Method method : {Method::non_reentrant, Method::reentrant}) {
        add_row(grouped(k, method));
      }
    }
    if (!forms_.is_exact) consider_selective();
    return std::move(forms_);
  }

 private:
  [[nodiscard]] bool fits(const StepFigures& figures) const {
    const auto peak = peak_bytes(figures, request_.limit);
    return peak && *peak <= budget_;
  }
  [[nodiscard]] static double time(const StepFigures& figures) {
    return figures.step_seconds.value_or(0);
  }

  void add_row(const Setting& setting) {
    const auto form = make_form(trace_, request_.runs, setting, request_.simulation);
    if (!form) return;
    SweepRow row;
    row.setting = form->setting;
    row.predicted = form->figures;
    row.fits = fits(form->figures);
    const std::size_t number = forms_.rows.size();
    const bool is_exact = form->schedule == plan_.schedule;
    const bool is_better =
        !forms_.row || time(form->figures) < time(*forms_.rows[*forms_.row].predicted);
    if (is_exact || (*row.fits && !forms_.is_exact && is_better)) forms_.row = number;
    forms_.is_exact = forms_.is_exact || is_exact;
    forms_.rows.push_back(std::move(row));
  }

  void consider_selective() {
    const auto whole =
        make_form(trace_, request_.runs, grouped(block_count(request_.runs), Method::non_reentrant),
                  request_.simulation);
    if (!whole) return;
    const Selection selection(trace_, request_.runs, whole->schedule);
    const Treatment plan = treatment(trace_, plan_.schedule);
    if (std::count(plan.is_run_again.begin(), plan.is_run_again.end(), char{1}) == 0) return;
    // As the plan has it; and, since a checkpoint runs again at once what the plan runs again when
    // it is needed, whatever fits in the order of its worth.
    const Treatment plain = treatment(trace_, plain_schedule(trace_));
    consider(selection, selection.by_worth([&](std::size_t o) {
      return plan.is_held[o] != 0 && plan.is_run_again[o] == 0;
    }));
    consider(selection, selection.by_worth([&](std::size_t o) { return plain.is_held[o] != 0; }));
  }

  // Drops as few of `kept`, from the front, as the budget asks for.
  void consider(const Selection& selection, const std::vector<OpId>& kept) {
    std::size_t too_few = 0;
    std::size_t enough = kept.size();
    std::optional<Form> best;
    std::vector<OpId> best_kept;
    const auto attempt = [&](std::size_t dropped) {
      const auto begin = kept.begin() + static_cast<std::ptrdiff_t>(dropped);
      std::vector<OpId> rest = selection.without_broken_draws({begin, kept.end()});
      if (rest.empty()) return false;
      auto form = make_form(trace_, request_.runs,
                            grouped(block_count(request_.runs), Method::non_reentrant),
                            request_.simulation, {.hold_outputs = false, .kept = rest});
      if (!form || !fits(form->figures)) return false;
      if (!best || time(form->figures) < time(best->figures)) {
        best = std::move(form);
        best_kept = std::move(rest);
      }
      return true;
    };
    if (!attempt(0)) {
      while (enough - too_few > 1) {
        const std::size_t middle = too_few + (enough - too_few) / 2;
        (attempt(middle) ? enough : too_few) = middle;
      }
    }
    if (!best) return;
    const double rival = forms_.selective ? time(forms_.selective->predicted)
                         : forms_.row     ? time(*forms_.rows[*forms_.row].predicted)
                                          : time(best->figures) + 1;
    if (time(best->figures) >= rival) return;
    forms_.row.reset();
    forms_.selective = SelectiveForm{.segments = best->setting.segments,
                                     .operators = selection.calls(best_kept),
                                     .predicted = best->figures};
  }

  const StepTrace& trace_;
  const PlanRequest& request_;
  const Plan& plan_;
  Bytes budget_;
  ModuleForms forms_;
};

}  // namespace

ModuleForms module_forms(const StepTrace& trace, const PlanRequest& request, const Plan& plan) {
  if (!are_modules(trace, request.runs)) return {};
  return FormFinder(trace, request, plan).find();
}

}  // namespace tidemark
