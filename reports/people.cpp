// How people see a row, and what stands under their tables.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "columns.hpp"

namespace tidemark {

bool has_figures(const SweepRow& row) {
  return row.status == Status::ok && (row.predicted || row.measured);
}

namespace {

// A longer reason stands among the notes.
constexpr std::size_t longest_reason = 100;
constexpr std::size_t most_settings_named = 3;

std::string status_text(Status status) {
  std::string text(name(status));
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string shortened(const std::string& text) {
  if (display_width(text) <= longest_reason) return text;
  std::size_t length = std::min(text.size(), longest_reason - 3);
  const std::size_t space = text.rfind(' ', length);
  if (space != std::string::npos && space > 0) length = space;
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
  while (length > 0 && std::string_view(".,;: ").find(text[length - 1]) != std::string_view::npos) {
    --length;
  }
  return text.substr(0, length) + "...";
}

std::string reason(const SweepRow& row) {
  return row.notes.empty() ? "" : for_people(row.notes.front());
}

void add_note(const std::string& text, const std::string& setting, std::vector<SharedNote>& notes) {
  const auto known = std::find_if(notes.begin(), notes.end(),
                                  [&](const SharedNote& note) { return note.text == text; });
  SharedNote& note = known == notes.end() ? notes.emplace_back() : *known;
  note.text = text;
  if (std::find(note.settings.begin(), note.settings.end(), setting) == note.settings.end()) {
    note.settings.push_back(setting);
  }
}

std::string note_line(const SharedNote& note) {
  return "note: " + note.text + " [" + settings_named(note) + "]";
}

std::string peak_line(const Sweep& sweep) {
  const auto any = [&](std::optional<Bytes> StepFigures::*peak) {
    return std::any_of(sweep.rows.begin(), sweep.rows.end(), [&](const SweepRow& row) {
      return has_figures(row) && (best_figures(row).*peak).has_value();
    });
  };
  std::string line = "peaks: live bytes";
  if (sweep.limit == PeakLimit::allocated && any(&StepFigures::allocated_peak_bytes)) {
    line = "peaks: bytes that the allocator handed out";
  } else if (sweep.limit != PeakLimit::live && sweep.limit != PeakLimit::allocated &&
             any(&StepFigures::reserved_peak_bytes)) {
    line = "peaks: bytes that the allocator reserved";
  }
  line += ", static memory included";
  if (sweep.budget_bytes) {
    line += "; budget " + format_bytes(*sweep.budget_bytes) +
            (sweep.is_default_budget ? ", what the GPU has" : "");
  }
  return line;
}

bool shows_predicted_times(const Sweep& sweep) {
  const std::vector<const Column*> titled = titled_columns();
  return std::any_of(sweep.rows.begin(), sweep.rows.end(), [&](const SweepRow& row) {
    return has_figures(row) && std::any_of(titled.begin(), titled.end(), [&](const Column* column) {
             return column->is_number && for_people(column->cell(sweep, row)).starts_with('~');
           });
  });
}

std::string time_model_clause(const Sweep& sweep) {
  if (!times_are_modelled(sweep)) return "";
  const std::string rates = sweep.time_model.empty() ? sweep.device.name : sweep.time_model;
  return "; modelled: no operator was timed, each takes what the rates of " + for_people(rates) +
         " give";
}

bool shows_measured_times(const Sweep& sweep) {
  return std::any_of(sweep.rows.begin(), sweep.rows.end(), [](const SweepRow& row) {
    return has_figures(row) && row.measured && row.measured->figures.step_seconds;
  });
}

std::string setting_of_row(const Sweep& sweep, const Recommendation& recommendation) {
  return for_people(describe(sweep.rows.at(recommendation.row)));
}

void add_recommendations(const Sweep& sweep, std::vector<std::string>& lines) {
  const Recommended& recommended = sweep.recommended;
  const auto add = [&](const char* kind, const std::optional<Recommendation>& recommendation) {
    if (!recommendation) return;
    lines.push_back(std::string(kind) + ": " + setting_of_row(sweep, *recommendation) + ". " +
                    for_people(recommendation->reason));
  };
  add("fastest", recommended.fastest);
  add("smallest", recommended.smallest);
  add("knee", recommended.knee);
  add("plan", recommended.plan);
  if (!recommended.written) return;
  const bool is_knee =
      recommended.written == recommended.knee && (!sweep.budget_bytes || sweep.is_default_budget);
  lines.push_back("recommended: " + setting_of_row(sweep, *recommended.written) +
                  (is_knee ? " (the knee)" : " (the fastest that fits)"));
}

}  // namespace

std::vector<SharedNote> shared_notes(const Sweep& sweep) {
  std::vector<SharedNote> notes;
  for (const SweepRow& row : sweep.rows) {
    for (std::size_t n = 0; n < row.notes.size(); ++n) {
      const std::string text = for_people(row.notes[n]);
      const bool is_in_the_table = !has_figures(row) && n == 0 && shortened(text) == text;
      if (!is_in_the_table) add_note(text, for_people(describe(row)), notes);
    }
  }
  return notes;
}

std::string settings_named(const SharedNote& note) {
  std::string settings;
  const std::size_t named = std::min(note.settings.size(), most_settings_named);
  for (std::size_t s = 0; s < named; ++s) settings += (s == 0 ? "" : "; ") + note.settings[s];
  if (note.settings.size() > named) {
    settings += "; and " + std::to_string(note.settings.size() - named) + " more";
  }
  return settings;
}

PeopleRow people_row(const Sweep& sweep, const SweepRow& row) {
  const std::vector<const Column*> titled = titled_columns();
  PeopleRow people;
  if (!has_figures(row)) {
    people.cells = {for_people(titled.front()->cell(sweep, row))};
    people.status =
        status_text(row.status) + (reason(row).empty() ? "" : ": " + shortened(reason(row)));
    return people;
  }
  for (const Column* column : titled) people.cells.push_back(for_people(column->cell(sweep, row)));
  return people;
}

std::vector<std::string> legend_lines(const Sweep& sweep) {
  std::vector<std::string> lines{peak_line(sweep)};
  const bool has_yours = std::any_of(sweep.rows.begin(), sweep.rows.end(),
                                     [](const SweepRow& row) { return row.yours; });
  if (has_yours) lines.emplace_back("* your configuration");
  if (shows_predicted_times(sweep)) {
    lines.emplace_back("~ predicted, not measured" + time_model_clause(sweep));
  }
  if (shows_measured_times(sweep)) {
    lines.emplace_back(
        "times are measured; recommendations compare predicted ones, free of single runs' noise");
  }
  return lines;
}

std::vector<std::string> closing_lines(const Sweep& sweep) {
  std::vector<std::string> lines = legend_lines(sweep);
  add_recommendations(sweep, lines);
  for (const SharedNote& note : shared_notes(sweep)) lines.push_back(note_line(note));
  for (const std::string& note : sweep.notes) lines.push_back("note: " + for_people(note));
  return lines;
}

}  // namespace tidemark
