#include "target_setting.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "tidemark/errors.hpp"
#include "tidemark/module_forms.hpp"

namespace tidemark {

namespace {

std::string parent_of(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

std::string cost(const StepFigures& figures) {
  std::string text = format_bytes(figures.live_peak_bytes);
  if (figures.step_seconds) text += " and " + format_seconds(*figures.step_seconds) + " a step";
  return text;
}

// The fastest of the expressible rows that need no more memory, else the smallest.
std::optional<std::size_t> nearest(const Sweep& sweep, const StepFigures& chosen,
                                   const Objection& objection) {
  std::optional<std::size_t> best;
  const auto peak = [&](std::size_t r) {
    return limiting_peak(best_figures(sweep.rows[r]), sweep.limit);
  };
  const Bytes wanted = limiting_peak(chosen, sweep.limit);
  const auto seconds = [&](std::size_t r) {
    return best_figures(sweep.rows[r]).step_seconds.value_or(0);
  };
  for (std::size_t r = 0; r < sweep.rows.size(); ++r) {
    const SweepRow& row = sweep.rows[r];
    if (row.is_plan() || row.status != Status::ok || !row.predicted) continue;
    if (objection(row.setting)) continue;
    if (!best) {
      best = r;
      continue;
    }
    const bool fits = peak(r) <= wanted;
    const bool best_fits = peak(*best) <= wanted;
    const bool is_better = fits != best_fits ? fits
                           : fits            ? seconds(r) < seconds(*best)
                                             : peak(r) < peak(*best);
    if (is_better) best = r;
  }
  return best;
}

}  // namespace

const SweepRow& chosen_setting(const ReportSource& source) {
  const std::size_t row = chosen_row(source);
  const SweepRow& chosen = source.sweep().rows.at(row);
  if (chosen.status == Status::invalid || !chosen.predicted) {
    throw UsageError("row " + std::to_string(row) + " is no setting that runs" +
                     (chosen.notes.empty() ? "" : ": " + chosen.notes.front()));
  }
  if (chosen.is_plan()) {
    throw UsageError("row " + std::to_string(row) + " (" + describe(chosen) +
                     ") decides about single operators, which no setting says; export the "
                     "plan.json in the sweep's folder instead, or choose another row");
  }
  return chosen;
}

std::optional<std::int64_t> uniform_group(const Setting& setting) {
  std::map<std::string, std::vector<std::size_t>> sizes;  // by parent, in order
  for (const auto& segment : setting.segments) {
    if (!segment.empty()) sizes[parent_of(segment.front())].push_back(segment.size());
  }
  std::size_t group = 0;
  for (const auto& [parent, of_run] : sizes) {
    group = std::max(group, *std::max_element(of_run.begin(), of_run.end()));
  }
  for (const auto& [parent, of_run] : sizes) {
    if (!std::all_of(of_run.begin(), of_run.end() - 1, [&](std::size_t s) { return s == group; })) {
      return std::nullopt;
    }
  }
  return group == 0 ? std::nullopt : std::optional(static_cast<std::int64_t>(group));
}

std::optional<std::string> block_class(const ReportSource& source, const Setting& setting) {
  if (const ModuleForms* modules = source.modules()) {
    return modules->block_class.empty() ? std::nullopt : std::optional(modules->block_class);
  }
  if (source.trace() == nullptr) return std::nullopt;
  std::set<std::string> blocks;
  for (const auto& segment : setting.segments) blocks.insert(segment.begin(), segment.end());
  std::set<std::string> classes;
  for (const Module& module : source.trace()->modules) {
    if (!blocks.contains(module.path)) continue;
    classes.insert(module.class_name.substr(module.class_name.rfind('.') + 1));
  }
  return classes.size() == 1 ? std::optional(*classes.begin()) : std::nullopt;
}

void refuse_if(const ReportSource& source, std::string_view target, const Objection& objection) {
  const SelectiveForm* form = chosen_selective(source);
  const SweepRow* chosen = form == nullptr ? &chosen_setting(source) : nullptr;
  const StepFigures& figures = form != nullptr ? form->predicted : best_figures(*chosen);
  const std::optional<std::string> reason =
      form != nullptr ? "it makes whole layers again, and keeps no single operator's result"
                      : objection(chosen->setting);
  if (!reason) return;
  const std::string what = form != nullptr ? "the plan ("
                                           : "row " + std::to_string(chosen_row(source)) + " (" +
                                                 describe(*chosen) + ", ";
  std::string message =
      std::string(target) + " cannot express " + what + cost(figures) + "): " + *reason;
  if (const auto row = nearest(source.sweep(), figures, objection)) {
    const SweepRow& other = source.sweep().rows[*row];
    message += "; the nearest that it can is --row " + std::to_string(*row) + " (" +
               describe(other) + ", " + cost(best_figures(other)) + ")";
  } else {
    message += "; no row of this sweep is, so sweep again for one that it can";
  }
  throw UsageError(message);
}

std::optional<std::string> needs_single_blocks(const Setting& setting) {
  if (!is_checkpointed(setting)) return std::nullopt;
  const auto is_single = [](const std::vector<std::string>& segment) {
    return segment.size() == 1;
  };
  if (std::all_of(setting.segments.begin(), setting.segments.end(), is_single)) return std::nullopt;
  return "it checkpoints single layers, not groups of them";
}

std::optional<std::string> needs_uniform_groups(const Setting& setting) {
  if (!is_checkpointed(setting) || uniform_group(setting)) return std::nullopt;
  return "its groups of layers are all of one size";
}

std::optional<std::string> needs_no_rest(const Setting& setting) {
  const auto group = uniform_group(setting);
  const auto is_whole = [&](const std::vector<std::string>& segment) {
    return static_cast<std::int64_t>(segment.size()) == group;
  };
  if (!group || std::all_of(setting.segments.begin(), setting.segments.end(), is_whole)) {
    return std::nullopt;
  }
  return "it needs a number of layers that the group divides, for it does not shorten the last one";
}

std::optional<std::string> needs_non_reentrant(const Setting& setting) {
  if (!is_checkpointed(setting) || setting.method == Method::non_reentrant) return std::nullopt;
  return "it has PyTorch's non-reentrant checkpointing only (sweep with --method non_reentrant)";
}

std::optional<std::string> needs_reentrant(const Setting& setting) {
  if (!is_checkpointed(setting) || setting.method == Method::reentrant) return std::nullopt;
  return "its checkpoint() is a reentrant one (sweep with --method reentrant)";
}

std::optional<std::string> needs_whole_checkpoints(const Setting& setting) {
  if (!setting.partition_activations && !setting.contiguous_memory_optimization)
    return std::nullopt;
  return "it does not partition checkpoints";
}

std::optional<std::string> needs_checkpoints_on_device(const Setting& setting) {
  if (setting.cpu_checkpointing == CpuCheckpointing::off) return std::nullopt;
  return "it does not move checkpoints to the host";
}

std::optional<std::string> needs_no_async(const Setting& setting) {
  if (setting.cpu_checkpointing != CpuCheckpointing::async) return std::nullopt;
  return "it moves checkpoints to the host on the computing stream, not beside it";
}

}  // namespace tidemark
