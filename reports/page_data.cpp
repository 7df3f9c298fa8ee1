#include "page_data.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "columns.hpp"
#include "memory_bands.hpp"
#include "step_blocks.hpp"
#include "tidemark/planner.hpp"

namespace tidemark {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t most_points = 180;

// Sorting compares what a cell means, not its text.
Json sort_key(const Cell& cell) {
  struct Key {
    Json operator()(std::monostate) const { return nullptr; }
    Json operator()(const ByteCount& count) const { return count.bytes; }
    Json operator()(const ByteDifference& difference) const { return difference.bytes; }
    Json operator()(const Duration& duration) const { return duration.seconds; }
    Json operator()(const DurationDifference& difference) const { return difference.seconds; }
    Json operator()(std::int64_t number) const { return number; }
    Json operator()(bool flag) const { return flag ? 1 : 0; }
    Json operator()(const std::string& text) const { return text; }
  };
  return std::visit(Key{}, cell);
}

// Two base64 digits a level, as 4095ths of the scale: three figures are all that a picture shows.
std::string packed(const std::vector<Bytes>& levels, Bytes scale) {
  static constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (const Bytes level : levels) {
    const double part = scale > 0 ? static_cast<double>(level) / static_cast<double>(scale) : 0;
    const auto steps = static_cast<std::size_t>(std::clamp(std::lround(4095 * part), 0L, 4095L));
    text += digits[steps / 64];
    text += digits[steps % 64];
  }
  return text;
}

Json packed_or_null(const std::vector<Bytes>& levels, Bytes scale) {
  const bool is_empty = std::all_of(levels.begin(), levels.end(), [](Bytes b) { return b == 0; });
  return is_empty ? Json(nullptr) : Json(packed(levels, scale));
}

// Enough digits for a picture, in few letters.
double rounded(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.6g", value);
  return std::strtod(text.data(), nullptr);
}

std::string percent_less(Bytes now, Bytes before) {
  const double change = 100 * (1 - static_cast<double>(now) / static_cast<double>(before));
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.0f\u00a0%% %s", std::abs(change),
                change >= 0 ? "less" : "more");
  return text.data();
}

// "4 checkpoints, cpu async"
std::string phrase(const Setting& setting) {
  if (!setting.number_checkpoints) return "no checkpointing";
  std::string text = for_people(describe(setting));
  const std::string count = std::to_string(*setting.number_checkpoints);
  const std::size_t at = text.find(count) + count.size();
  return text.insert(at, count == "1" ? " checkpoint" : " checkpoints");
}

// What is drawn: a step that did not finish is placed where it was predicted.
const StepFigures* drawn_figures(const SweepRow& row) {
  if (row.status == Status::ok && row.measured) return &row.measured->figures;
  return row.predicted ? &*row.predicted : nullptr;
}

std::optional<double> drawn_seconds(const SweepRow& row) {
  const StepFigures* figures = drawn_figures(row);
  if (figures != nullptr && figures->step_seconds) return figures->step_seconds;
  return row.predicted ? row.predicted->step_seconds : std::nullopt;
}

class PageWriter {
 public:
  explicit PageWriter(const ReportSource& source) : source_(source), sweep_(source.sweep()) {
    if (source.trace() != nullptr) blocks_.emplace(*source.trace(), sweep_);
  }

  Json write() {
    write_head();
    write_tiles();
    for (const Column* column : titled_columns()) titles_.push_back(column);
    page_["columns"] = Json::array({Json{{"title", "row"}, {"number", true}}});
    for (const Column* column : titles_) {
      page_["columns"].push_back({{"title", column->title}, {"number", column->is_number}});
    }
    page_["views"] = Json::array();
    page_["blocks"] = Json::array();
    if (blocks_) write_views();
    page_["rows"] = Json::array();
    for (std::size_t row = 0; row < sweep_.rows.size(); ++row) write_row(row);
    page_["operators"] = Json::array();
    std::vector<std::string> names(operators_.size());
    for (const auto& [name, number] : operators_) names[number] = name;
    page_["operators"] = names;
    write_foot();
    return std::move(page_);
  }

 private:
  void write_head();
  void write_tiles();
  void write_views();
  void write_row(std::size_t number);
  [[nodiscard]] Json detail(std::size_t number);
  [[nodiscard]] Json breakdown(const SweepRow& row) const;
  [[nodiscard]] Json row_notes(std::size_t number) const;
  [[nodiscard]] std::string summary(const SweepRow& row) const;
  [[nodiscard]] bool is_on_front(const SweepRow& row) const;
  [[nodiscard]] Json headline() const;
  [[nodiscard]] const SweepRow* plain() const;
  void write_foot();

  [[nodiscard]] Bytes peak(const SweepRow& row) const {
    return limiting_peak(*drawn_figures(row), sweep_.limit);
  }
  std::size_t operator_number(const std::string& name) {
    return operators_.emplace(name, operators_.size()).first->second;
  }

  const ReportSource& source_;
  const Sweep& sweep_;
  std::optional<StepBlocks> blocks_;
  std::vector<const Column*> titles_;
  std::map<std::string, std::size_t> operators_;
  Json page_;
};

const SweepRow* PageWriter::plain() const {
  for (const SweepRow& row : sweep_.rows) {
    if (row.predicted && row.is_plain() && row.status != Status::failed) {
      return &row;
    }
  }
  return nullptr;
}

// Settings were compared by their predicted times; single runs may tell another story.
std::string predicted_clause(const SweepRow& row, const SweepRow* plain) {
  const bool is_measured = row.measured && row.measured->figures.step_seconds;
  if (!is_measured || plain == nullptr || !row.predicted || !plain->predicted) return "";
  const std::optional<double> own = row.predicted->step_seconds;
  const std::optional<double> before = plain->predicted->step_seconds;
  if (!own || !before || *before <= 0) return "";
  const double change = *own / *before - 1;
  return " (predicted: " + format_percent(change) + (change < 0 ? " less)" : " more)");
}

Json PageWriter::headline() const {
  Json text = Json::array();
  const auto say = [&](const std::string& words, bool is_strong = false) {
    text.push_back({words, is_strong});
  };
  if (sweep_.rows.empty()) {
    say("No setting was tried.");
    return text;
  }
  if (!sweep_.recommended.written ||
      drawn_figures(sweep_.rows.at(sweep_.recommended.written->row)) == nullptr) {
    say("Nothing fits");
    if (sweep_.budget_bytes) say(" " + format_bytes(*sweep_.budget_bytes));
    return text;
  }
  const SweepRow& row = sweep_.rows[sweep_.recommended.written->row];
  const SweepRow* base = plain();
  say("Train with ");
  say(phrase(row.setting), true);
  say(": the step needs ");
  say(format_bytes(peak(row)), true);
  if (base != nullptr && base != &row && peak(*base) > 0) {
    say(" instead of " + format_bytes(peak(*base)) + " (" + percent_less(peak(row), peak(*base)) +
        " than without checkpointing)");
  }
  if (const auto time = drawn_seconds(row)) {
    say(" and takes ");
    say(format_seconds(*time), true);
    const auto before = base == nullptr ? std::nullopt : drawn_seconds(*base);
    if (before && base != &row) say(" instead of " + format_seconds(*before));
    if (base != &row) say(predicted_clause(row, base));
  }
  say(".");
  return text;
}

void PageWriter::write_head() {
  const Provenance& from = sweep_.provenance;
  const std::size_t slash = from.model.find_last_of('/');
  const std::string model = slash == std::string::npos ? from.model : from.model.substr(slash + 1);
  page_["model"] = for_people(model.empty() ? "a recorded step" : model);
  std::string about = page_["model"];
  about += " on " + std::string(name(sweep_.device.kind));
  if (!sweep_.device.name.empty()) about += " (" + for_people(sweep_.device.name) + ")";
  const auto plans = std::count_if(sweep_.rows.begin(), sweep_.rows.end(),
                                   [](const SweepRow& row) { return row.is_plan(); });
  about += ", " + std::to_string(std::ssize(sweep_.rows) - plans) + " settings";
  if (plans > 0) about += " and a plan";
  if (!from.created.empty()) about += ", " + for_people(from.created.substr(0, 10));
  page_["about"] = about;
  page_["headline"] = headline();
  page_["reason"] = "";
  if (sweep_.recommended.written) {
    page_["reason"] = for_people(sweep_.recommended.written->reason);
  } else {
    for (const std::string& note : sweep_.notes) {
      if (note.starts_with("No setting fits")) page_["reason"] = for_people(note);
    }
  }
  page_["budget"] = sweep_.budget_bytes ? Json(*sweep_.budget_bytes) : Json(nullptr);
  const std::string legend = legend_lines(sweep_).front();
  page_["peakName"] =
      "peak, " + legend.substr(legend.find(": ") + 2, legend.find(", ") - legend.find(": ") - 2);
  page_["written"] =
      sweep_.recommended.written ? Json(sweep_.recommended.written->row) : Json(nullptr);
  page_["first"] = source_.row().value_or(0);
}

void PageWriter::write_tiles() {
  page_["tiles"] = Json::array();
  const auto add = [&](const char* kind, const std::string& title, std::size_t number) {
    const SweepRow& row = sweep_.rows.at(number);
    std::string text = "does not run";
    if (drawn_figures(row) != nullptr) {
      text = format_bytes(peak(row));
      if (const auto time = drawn_seconds(row)) text += ", " + format_seconds(*time);
      if (row.fits == false) text += ", does not fit";
    }
    page_["tiles"].push_back({{"kind", kind}, {"title", title}, {"row", number}, {"text", text}});
  };
  const Recommended& recommended = sweep_.recommended;
  if (recommended.written) add("written", "recommended", recommended.written->row);
  for (std::size_t row = 0; row < sweep_.rows.size(); ++row) {
    if (sweep_.rows[row].yours) add("yours", "your present setting", row);
  }
  if (recommended.fastest) {
    add("", sweep_.budget_bytes ? "fastest that fits" : "fastest", recommended.fastest->row);
  }
  if (recommended.knee) add("", "best trade (knee)", recommended.knee->row);
  if (recommended.smallest) add("", "smallest", recommended.smallest->row);
  if (recommended.plan) add("", "plan of operators", recommended.plan->row);
}

void PageWriter::write_views() {
  for (const BandView& view : band_views(*blocks_)) {
    page_["views"].push_back({{"name", "by " + view.name}, {"bands", view.bands}});
  }
  std::vector<std::string> names = short_names(blocks_->names());
  names.emplace_back("outside");
  page_["blocks"] = names;
}

bool PageWriter::is_on_front(const SweepRow& row) const {
  const auto time = drawn_seconds(row);
  if (!has_figures(row) || !time) return false;
  return std::none_of(sweep_.rows.begin(), sweep_.rows.end(), [&](const SweepRow& other) {
    const auto its = drawn_seconds(other);
    if (!has_figures(other) || !its) return false;
    return peak(other) <= peak(row) && *its <= *time && (peak(other) < peak(row) || *its < *time);
  });
}

std::string PageWriter::summary(const SweepRow& row) const {
  std::string text = "Peak ";
  if (row.predicted) {
    text += format_bytes(limiting_peak(*row.predicted, sweep_.limit)) + " predicted";
  }
  if (row.measured) {
    text += std::string(row.predicted ? ", " : "") +
            format_bytes(limiting_peak(row.measured->figures, sweep_.limit)) + " measured";
  }
  if (const auto time = drawn_seconds(row)) text += "; step " + format_seconds(*time);
  text += ". Largest part but static: " + std::string(title(best_figures(row).peak_term));
  if (!row.peak_operator.empty()) text += ", during " + for_people(row.peak_operator);
  return text + ".";
}

Json PageWriter::breakdown(const SweepRow& row) const {
  std::vector<std::pair<Bytes, std::size_t>> parts;
  const StepFigures* figures = drawn_figures(row);
  for (std::size_t t = 0; figures != nullptr && t < term_count; ++t) {
    if (figures->peak_breakdown[t] > 0) parts.emplace_back(figures->peak_breakdown[t], t);
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  Json lines = Json::array();
  for (const auto& [bytes, term] : parts) {
    lines.push_back({title(static_cast<Term>(term)), bytes, term});
  }
  return lines;
}

Json PageWriter::row_notes(std::size_t number) const {
  const SweepRow& row = sweep_.rows[number];
  Json notes = Json::array();
  if (!row.setting.segments.empty()) {
    std::vector<std::string> all;
    for (const auto& segment : row.setting.segments)
      all.insert(all.end(), segment.begin(), segment.end());
    const std::vector<std::string> names = short_names(all);
    std::string text;
    std::size_t next = 0;
    for (const auto& segment : row.setting.segments) {
      if (segment.empty()) continue;
      text += (text.empty() ? "" : "; ") + names[next];
      if (segment.size() > 1) text += " to " + names[next + segment.size() - 1];
      next += segment.size();
    }
    notes.push_back("Recomputed together: " + for_people(text) + ".");
  }
  const RowDetail* kept = row.is_plan() && blocks_ ? source_.detail(number) : nullptr;
  if (kept != nullptr) {
    for (const std::string& decision : describe_decisions(*source_.trace(), kept->schedule)) {
      notes.push_back(for_people(decision) + ".");
    }
  }
  for (const std::string& note : row.notes) notes.push_back(for_people(note));
  return notes;
}

// The levels that are drawn as lines over the bands; a row that ran out of memory has no whole one.
Json lines(const RowDetail& detail, const BandPicture& picture) {
  Json all = Json::array();
  const auto add = [&](const char* name, const std::vector<Bytes>& levels) {
    if (levels.size() != detail.schedule.steps.size()) return;
    std::vector<Bytes> drawn;
    for (const BandPoint& point : picture.points) drawn.push_back(levels[point.step]);
    const Bytes scale = *std::max_element(drawn.begin(), drawn.end());
    if (scale > 0) all.push_back({name, packed(drawn, scale), scale});
  };
  if (detail.measured) add("measured", detail.measured->live_bytes);
  if (detail.predicted) {
    add("allocated", detail.predicted->allocated_bytes);
    add("reserved", detail.predicted->reserved_bytes);
  }
  if (detail.measured) {
    add("measured reserved", detail.measured->reserved_bytes);
  }
  if (detail.predicted) add("on the host", detail.predicted->host_bytes);
  return all;
}

Json PageWriter::detail(std::size_t number) {
  const RowDetail* kept = blocks_ ? source_.detail(number) : nullptr;
  if (kept == nullptr || kept->schedule.steps.empty()) return nullptr;
  const BandPicture picture = draw_bands(*source_.trace(), *blocks_, kept->schedule, most_points);
  const BandPoint& highest = picture.points[picture.peak];
  Json json;
  json["timed"] = picture.has_times;
  json["peak"] = picture.peak;
  json["peakBytes"] = highest.live_bytes;
  json["peakBands"] = highest.levels;
  std::string phases;
  std::size_t last_operator = operator_number("");
  char phase = 'f';
  for (const BandPoint& point : picture.points) {
    const Step& step = kept->schedule.steps[point.step];
    if (const auto* run = std::get_if<Run>(&step.action)) {
      static constexpr std::string_view letters = "fbo";
      const Op& op = source_.trace()->ops[index(run->op)];
      phase = step.cause == Cause::recompute ? 'r' : letters[static_cast<std::size_t>(op.phase)];
      last_operator = operator_number(op.name + (op.module.empty() ? "" : " in " + op.module));
    }
    const bool moves = std::holds_alternative<Copy>(step.action) ||
                       std::holds_alternative<Collective>(step.action);
    phases += moves ? 'm' : phase;
    json["x"].push_back(rounded(point.seconds));
    json["operators"].push_back(last_operator);
  }
  json["phases"] = phases;
  json["lines"] = lines(*kept, picture);
  for (std::size_t view = 0; view < highest.levels.size(); ++view) {
    Json bands = Json::array();
    for (std::size_t band = 0; band < highest.levels[view].size(); ++band) {
      std::vector<Bytes> levels;
      for (const BandPoint& point : picture.points) levels.push_back(point.levels[view][band]);
      bands.push_back(packed_or_null(levels, highest.live_bytes));
    }
    json["bands"].push_back(std::move(bands));
  }
  for (const double seconds : picture.recompute_seconds)
    json["recompute"].push_back(rounded(seconds));
  for (const double seconds : picture.transfer_seconds)
    json["transfer"].push_back(rounded(seconds));
  return json;
}

void PageWriter::write_row(std::size_t number) {
  const SweepRow& row = sweep_.rows[number];
  const bool is_shown = has_figures(row);
  Json json{{"number", number}, {"name", for_people(describe(row))}, {"yours", row.yours}};
  json["cells"] = Json::array({std::to_string(number)});
  json["keys"] = Json::array({number});
  for (std::size_t c = 0; c < titles_.size() && (is_shown || c == 0); ++c) {
    const Cell cell = titles_[c]->cell(sweep_, row);
    // The setting's column says nothing of whose it is: a badge does.
    json["cells"].push_back(c == 0 ? for_people(describe(row)) : for_people(cell));
    json["keys"].push_back(sort_key(cell));
  }
  json["status"] = nullptr;
  if (!is_shown) {
    std::string status(name(row.status));
    std::replace(status.begin(), status.end(), '_', ' ');
    if (!row.notes.empty()) status += ": " + for_people(row.notes.front());
    json["status"] = status;
  }
  const bool is_drawn = drawn_figures(row) != nullptr && row.status != Status::failed;
  const auto time = drawn_seconds(row);
  json["peak"] = is_drawn ? Json(peak(row)) : Json(nullptr);
  json["seconds"] = is_drawn && time ? Json(*time) : Json(nullptr);
  json["fits"] = row.fits ? Json(*row.fits) : Json(nullptr);
  json["front"] = is_on_front(row);
  json["peakOperator"] = for_people(row.peak_operator);
  json["summary"] = is_shown ? summary(row) : "";
  json["breakdown"] = is_drawn ? breakdown(row) : Json::array();
  json["notes"] = row_notes(number);
  json["detail"] = row.status == Status::invalid ? Json(nullptr) : detail(number);
  page_["rows"].push_back(std::move(json));
}

void PageWriter::write_foot() {
  page_["legend"] = Json::array();
  for (const std::string& line : legend_lines(sweep_)) {
    // Whose a setting is, a badge tells.
    if (!line.starts_with("*")) page_["legend"].push_back(for_people(line));
  }
  page_["notes"] = Json::array();
  for (const SharedNote& note : shared_notes(sweep_)) {
    page_["notes"].push_back({note.text, settings_named(note)});
  }
  for (const std::string& note : sweep_.notes) page_["notes"].push_back({for_people(note), ""});
  const Provenance& from = sweep_.provenance;
  page_["provenance"] = Json::array();
  const auto add = [&](const char* term, const std::string& text) {
    if (!text.empty()) page_["provenance"].push_back({term, for_people(text)});
  };
  add("command", from.command_line);
  add("made by", from.tool + (from.framework.empty() ? "" : ", " + from.framework));
  add("made", from.created);
  add("model", from.model);
  add("device", std::string(name(sweep_.device.kind)) +
                    (sweep_.device.name.empty() ? "" : ", " + sweep_.device.name));
  add("host", from.host);
  add("threads", sweep_.device.threads > 0 ? std::to_string(sweep_.device.threads) : "");
  add("copies", sweep_.device.copy_bytes_per_second
                    ? format_bytes(std::llround(*sweep_.device.copy_bytes_per_second)) + "/s"
                    : "");
  add("seed", std::to_string(from.seed));
  add("fingerprint of the step", sweep_.fingerprint);
}

}  // namespace

std::string page_data(const ReportSource& source) {
  const std::string text =
      PageWriter(source).write().dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string safe;
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";  // "</script>" in a name must not end the element
    } else {
      safe += c;
    }
  }
  return safe;
}

}  // namespace tidemark
