// sweep.json, one field after the other. Documented in the README.
#include "sweep_json.hpp"

#include <array>
#include <string>
#include <utility>

#include "step_trace_json.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

constexpr const char* sweep_format = "tidemark.sweep";
constexpr std::array<std::string_view, 4> limit_names{"automatic", "live", "allocated", "reserved"};

std::optional<Bytes> find_bytes(const JsonCursor& json, const char* key) {
  const auto found = json.find(key);
  return found ? std::optional(found->bytes()) : std::nullopt;
}

std::optional<double> find_seconds(const JsonCursor& json, const char* key) {
  const auto found = json.find(key);
  return found ? std::optional(found->number_from_zero()) : std::nullopt;
}

Term read_term(const JsonCursor& json) {
  return json.enumeration<Term>(term_count, [](Term term) { return key(term); });
}

std::array<Bytes, term_count> read_breakdown(const JsonCursor& json) {
  std::array<Bytes, term_count> breakdown{};
  std::size_t known = 0;
  for (std::size_t t = 0; t < term_count; ++t) {
    const std::string term(key(static_cast<Term>(t)));
    if (!json.json().is_object() || !json.json().contains(term)) continue;
    breakdown[t] = json.at(term).bytes();
    ++known;
  }
  if (!json.json().is_object() || known != json.json().size()) {
    json.fail("holds what is no term of a peak");
  }
  return breakdown;
}

OrderedJson setting_to_json(const Setting& setting) {
  OrderedJson json;
  json["number_checkpoints"] = or_null(setting.number_checkpoints);
  json["uneven"] = setting.uneven;
  json["partition_activations"] = setting.partition_activations;
  json["cpu_checkpointing"] = name(setting.cpu_checkpointing);
  json["contiguous_memory_optimization"] = setting.contiguous_memory_optimization;
  json["synchronize_checkpoint_boundary"] = setting.synchronize_checkpoint_boundary;
  json["profile"] = setting.profile;
  json["model_parallel_size"] = setting.model_parallel_size;
  json["method"] = name(setting.method);
  json["deepspeed_version"] = to_string(setting.deepspeed_version);
  json["alloc_conf"] = setting.alloc_conf;
  json["segments"] = setting.segments;
  return json;
}

DeepSpeedVersion read_version(const JsonCursor& json) {
  const auto version = deepspeed_version_from_text(json.string());
  if (!version) json.fail("is no version such as 0.19.8");
  return *version;
}

Setting read_setting(const JsonCursor& json) {
  Setting setting;
  if (const auto k = json.find("number_checkpoints"))
    setting.number_checkpoints = k->small_integer();
  if (const auto uneven = json.find("uneven")) setting.uneven = uneven->boolean();
  setting.partition_activations = json.at("partition_activations").boolean();
  setting.cpu_checkpointing =
      json.at("cpu_checkpointing").enumeration<CpuCheckpointing>(3, [](CpuCheckpointing value) {
        return name(value);
      });
  setting.contiguous_memory_optimization = json.at("contiguous_memory_optimization").boolean();
  if (const auto flag = json.find("synchronize_checkpoint_boundary")) {
    setting.synchronize_checkpoint_boundary = flag->boolean();
  }
  if (const auto flag = json.find("profile")) setting.profile = flag->boolean();
  setting.model_parallel_size = json.at("model_parallel_size").small_integer();
  setting.method =
      json.at("method").enumeration<Method>(2, [](Method value) { return name(value); });
  setting.deepspeed_version = read_version(json.at("deepspeed_version"));
  if (const auto conf = json.find("alloc_conf")) setting.alloc_conf = conf->string();
  setting.segments =
      json.at("segments").list<std::vector<std::string>>([](const JsonCursor& segment) {
        return segment.strings();
      });
  return setting;
}

OrderedJson recommendation_to_json(const std::optional<Recommendation>& recommendation) {
  if (!recommendation) return nullptr;
  OrderedJson json;
  json["row"] = recommendation->row;
  json["reason"] = recommendation->reason;
  return json;
}

std::optional<Recommendation> read_recommendation(const JsonCursor& json, const char* key,
                                                  std::size_t rows) {
  const auto found = json.find(key);
  if (!found) return std::nullopt;
  const auto last = static_cast<std::int64_t>(rows) - 1;
  return Recommendation{.row = static_cast<std::size_t>(found->at("row").integer(0, last)),
                        .reason = found->at("reason").string()};
}

}  // namespace

OrderedJson figures_to_json(const StepFigures& figures) {
  OrderedJson breakdown = OrderedJson::object();
  for (std::size_t t = 0; t < term_count; ++t) {
    if (figures.peak_breakdown[t] != 0) {
      breakdown[std::string(key(static_cast<Term>(t)))] = figures.peak_breakdown[t];
    }
  }
  OrderedJson json{{"live_peak_bytes", figures.live_peak_bytes},
                   {"allocated_peak_bytes", or_null(figures.allocated_peak_bytes)},
                   {"reserved_peak_bytes", or_null(figures.reserved_peak_bytes)},
                   {"first_reserved_peak_bytes", or_null(figures.first_reserved_peak_bytes)},
                   {"host_peak_bytes", figures.host_peak_bytes},
                   {"pinned_reserved_bytes", or_null(figures.pinned_reserved_bytes)},
                   {"static_bytes", figures.static_bytes},
                   {"peak_breakdown", std::move(breakdown)},
                   {"peak_term", key(figures.peak_term)}};
  json["peak_op"] = figures.peak_op ? OrderedJson(static_cast<std::int32_t>(*figures.peak_op))
                                    : OrderedJson(nullptr);
  json["step_seconds"] = or_null(figures.step_seconds);
  json["recompute_seconds"] = or_null(figures.recompute_seconds);
  json["transfer_seconds"] = or_null(figures.transfer_seconds);
  json["transfer_bytes"] = figures.transfer_bytes;
  return json;
}

StepFigures read_figures(const JsonCursor& json) {
  StepFigures figures;
  figures.live_peak_bytes = json.at("live_peak_bytes").bytes();
  figures.allocated_peak_bytes = find_bytes(json, "allocated_peak_bytes");
  figures.reserved_peak_bytes = find_bytes(json, "reserved_peak_bytes");
  figures.first_reserved_peak_bytes = find_bytes(json, "first_reserved_peak_bytes");
  figures.host_peak_bytes = json.at("host_peak_bytes").bytes();
  figures.pinned_reserved_bytes = find_bytes(json, "pinned_reserved_bytes");
  figures.static_bytes = json.at("static_bytes").bytes();
  figures.peak_breakdown = read_breakdown(json.at("peak_breakdown"));
  figures.peak_term = read_term(json.at("peak_term"));
  if (const auto op = json.find("peak_op")) figures.peak_op = op->id<OpId>();
  figures.step_seconds = find_seconds(json, "step_seconds");
  figures.recompute_seconds = find_seconds(json, "recompute_seconds");
  figures.transfer_seconds = find_seconds(json, "transfer_seconds");
  figures.transfer_bytes = json.at("transfer_bytes").bytes();
  return figures;
}

OrderedJson measured_to_json(const std::optional<MeasuredFigures>& measured) {
  if (!measured) return nullptr;
  OrderedJson json = figures_to_json(measured->figures);
  json["step_seconds_noise"] = or_null(measured->step_seconds_noise);
  return json;
}

std::optional<MeasuredFigures> find_measured(const JsonCursor& json) {
  const auto measured = json.find("measured");
  if (!measured) return std::nullopt;
  return MeasuredFigures{.figures = read_figures(*measured),
                         .step_seconds_noise = find_seconds(*measured, "step_seconds_noise")};
}

GradientVerdict read_verdict(const JsonCursor& json) {
  return json.enumeration<GradientVerdict>(4,
                                           [](GradientVerdict verdict) { return name(verdict); });
}

OrderedJson row_to_json(const SweepRow& row) {
  OrderedJson json;
  json["planner"] = row.is_plan() ? OrderedJson(row.planner) : OrderedJson(nullptr);
  json["setting"] = setting_to_json(row.setting);
  json["yours"] = row.yours;
  json["predicted"] = row.predicted ? figures_to_json(*row.predicted) : OrderedJson(nullptr);
  json["measured"] = measured_to_json(row.measured);
  json["fits"] = or_null(row.fits);
  json["gradients"] = name(row.gradients);
  json["status"] = name(row.status);
  json["peak_operator"] = row.peak_operator;
  json["notes"] = row.notes;
  return json;
}

SweepRow read_row(const JsonCursor& json) {
  SweepRow row;
  if (const auto planner = json.find("planner")) row.planner = planner->string();
  row.setting = read_setting(json.at("setting"));
  row.yours = json.at("yours").boolean();
  if (const auto predicted = json.find("predicted")) row.predicted = read_figures(*predicted);
  row.measured = find_measured(json);
  if (const auto fits = json.find("fits")) row.fits = fits->boolean();
  row.gradients = read_verdict(json.at("gradients"));
  row.status = json.at("status").enumeration<Status>(4, [](Status status) { return name(status); });
  if (const auto peak = json.find("peak_operator")) row.peak_operator = peak->string();
  row.notes = json.at("notes").strings();
  if (row.status == Status::ok && !row.predicted) json.fail("is ok but has no prediction");
  return row;
}

std::string format_sweep(const Sweep& sweep) {
  OrderedJson json;
  json["format"] = sweep_format;
  json["schema_version"] = Sweep::schema_version;
  json["provenance"] = to_json(sweep.provenance);
  json["device"] = to_json(sweep.device);
  json["fingerprint"] = sweep.fingerprint;
  json["budget_bytes"] = or_null(sweep.budget_bytes);
  if (sweep.is_default_budget) json["is_default_budget"] = true;
  json["limit"] = limit_names.at(static_cast<std::size_t>(sweep.limit));
  json["time_model"] =
      sweep.time_model.empty() ? OrderedJson(nullptr) : OrderedJson(sweep.time_model);
  json["rows"] = OrderedJson::array();
  for (const SweepRow& row : sweep.rows) json["rows"].push_back(row_to_json(row));
  json["recommended"]["fastest"] = recommendation_to_json(sweep.recommended.fastest);
  json["recommended"]["smallest"] = recommendation_to_json(sweep.recommended.smallest);
  json["recommended"]["knee"] = recommendation_to_json(sweep.recommended.knee);
  json["recommended"]["written"] = recommendation_to_json(sweep.recommended.written);
  json["recommended"]["plan"] = recommendation_to_json(sweep.recommended.plan);
  json["notes"] = sweep.notes;
  return to_text(json, 2) + "\n";
}

Sweep parse_sweep(const std::string& path, const std::string& text) {
  const Json document = parse_document(path, text);
  check_format(path, document, sweep_format, Sweep::schema_version);
  const JsonCursor root(path, document, "");
  Sweep sweep;
  sweep.provenance = read_provenance(root.at("provenance"));
  sweep.device = read_device(root.at("device"));
  sweep.fingerprint = root.at("fingerprint").string();
  sweep.budget_bytes = find_bytes(root, "budget_bytes");
  if (const auto is_default = root.find("is_default_budget")) {
    sweep.is_default_budget = is_default->boolean();
  }
  if (const auto limit = root.find("limit")) {
    sweep.limit = limit->enumeration<PeakLimit>(limit_names.size(), [](PeakLimit value) {
      return limit_names.at(static_cast<std::size_t>(value));
    });
  }
  if (const auto model = root.find("time_model")) sweep.time_model = model->string();
  sweep.rows = root.at("rows").list<SweepRow>(read_row);
  const JsonCursor recommended = root.at("recommended");
  const std::size_t rows = sweep.rows.size();
  sweep.recommended.fastest = read_recommendation(recommended, "fastest", rows);
  sweep.recommended.smallest = read_recommendation(recommended, "smallest", rows);
  sweep.recommended.knee = read_recommendation(recommended, "knee", rows);
  sweep.recommended.written = read_recommendation(recommended, "written", rows);
  sweep.recommended.plan = read_recommendation(recommended, "plan", rows);
  if (const auto notes = root.find("notes")) sweep.notes = notes->strings();
  return sweep;
}

Sweep read_sweep(const std::string& path) { return parse_sweep(path, read_file(path)); }

}  // namespace tidemark
