#include "command_sweep.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <string_view>
#include <variant>

#include "interrupt.hpp"
#include "open_step.hpp"
#include "peak_differences.hpp"
#include "plan_run.hpp"
#include "sweep_run.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "tidemark/sweep.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

struct SweepOptions {
  RecordRequest record;
  std::optional<std::string> config;
  std::optional<std::string> values_from;
  std::optional<std::string> blocks;
  std::optional<std::string> output;
  SweepAxes axes;
  std::vector<std::string> fixed;
  std::optional<Bytes> budget_bytes;
  PeakLimit limit = PeakLimit::automatic;
  const Planner* planner = nullptr;  // whose plan stands beside the settings
  Bytes host_budget_bytes = 0;       // of that plan
  BuildOptions build;
  ExecuteOptions execute;
  bool executes = true;
  bool resumes = false;
  bool is_strict = false;
  bool names_settings = false;  // what can be refused was asked for by name
  Bytes tolerance_bytes = 0;
  std::optional<double> time_tolerance_percent;
  std::optional<std::string> machine;  // whose rates time the operators
};

po::options_description describe_sweep_options() {
  po::options_description options("options");
  add_record_options(options);
  const auto word = [] { return po::value<std::string>(); };
  options.add_options()("config", word(),
                        "DeepSpeed configuration: your row, and what is written back")(
      "number-checkpoints", word()->default_value("auto"), "auto, or a list such as none,1,2,4")(
      "partition-activations", word()->default_value("both"), "off, on or both")(
      "cpu-checkpointing", word()->default_value("all"), "off, blocking, async or all")(
      "contiguous-memory-optimization", word()->default_value("both"), "off, on or both")(
      "model-parallel-size", po::value<std::int32_t>()->default_value(1),
      "ranks that share a checkpoint")("method", word()->default_value("reentrant"),
                                       "reentrant, non_reentrant or both")(
      "deepspeed-version", word()->default_value("0.19.8"), "whose behaviour is meant")(
      "fix", word(), "keys of the configuration that stay as they are, separated by commas")(
      "blocks", word(), "pattern of module paths that are the blocks, such as model.layers.*")(
      "uneven", "segments whose sizes differ by at most one block")(
      "hold-outputs", "the caller keeps the model's outputs to the end of the step")(
      "budget", word(), "bytes that the step may need, such as 6GiB")(
      "host-budget", word(),
      "with --budget: bytes of pinned host memory for what that plan offloads; none without it")(
      "planner", word()->default_value("tide"),
      "with --budget: whose plan is a row beside the settings, or none")(
      "alloc-conf", po::value<std::vector<std::string>>()->composing(),
      "allocator settings as PYTORCH_ALLOC_CONF has them, or default; may be repeated to compare "
      "several")("machine", word(),
                 "whose rates time the operators: machine.json, or the name of a GPU; with "
                 "--no-execute")("limit", word()->default_value("automatic"),
                                 "which peak the budget limits: live, allocated, reserved")(
      "repeat", po::value<std::int32_t>()->default_value(1), "measured executions of each setting")(
      "no-execute", "only predict")("values-from", word(),
                                    "the .pt2 whose values a saved trace executes with")(
      "resume", "go on with the sweep in the output folder")(
      "strict", "calls that a phantom GPU cannot answer exactly make the command fail")(
      "tolerance", word()->default_value("0"), "bytes by which a measured peak may differ")(
      "time-tolerance", po::value<double>(), "percent by which a measured step time may differ")(
      "output,o", word(),
      "folder for sweep.json, the trace, every row, the configuration and report.html");
  return options;
}

std::vector<bool> parse_switch(const std::string& name, const std::string& value) {
  switch (choose(name, value, {"off", "on", "both"})) {
    case 0:
      return {false};
    case 1:
      return {true};
    default:
      return {false, true};
  }
}

std::optional<std::vector<std::optional<std::int32_t>>> parse_counts(const std::string& text) {
  if (text == "auto") return std::nullopt;
  std::vector<std::optional<std::int32_t>> counts;
  for (const std::string& part : split_list(text)) {
    if (part == "none") {
      counts.emplace_back(std::nullopt);
      continue;
    }
    const bool is_number =
        !part.empty() && part.size() < 7 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number || std::stoi(part) < 1) {
      throw UsageError("--number-checkpoints takes auto or a list such as none,1,2,4, not '" +
                       text + "'");
    }
    counts.emplace_back(std::stoi(part));
  }
  return counts;
}

std::vector<std::string> parse_alloc_confs(const std::vector<std::string>& texts) {
  std::vector<std::string> confs;
  for (const std::string& text : texts) {
    const std::string conf = parse_alloc_conf(text);
    if (std::find(confs.begin(), confs.end(), conf) == confs.end()) confs.push_back(conf);
  }
  return confs;
}

SweepAxes parse_axes(const po::variables_map& given) {
  const auto text = [&](const char* name) { return given[name].as<std::string>(); };
  SweepAxes axes;
  axes.number_checkpoints = parse_counts(text("number-checkpoints"));
  axes.partition_activations = parse_switch("partition-activations", text("partition-activations"));
  axes.contiguous_memory_optimization =
      parse_switch("contiguous-memory-optimization", text("contiguous-memory-optimization"));
  const std::size_t cpu =
      choose("cpu-checkpointing", text("cpu-checkpointing"), {"off", "blocking", "async", "all"});
  if (cpu < 3) axes.cpu_checkpointing = {static_cast<CpuCheckpointing>(cpu)};
  const std::size_t method =
      choose("method", text("method"), {"reentrant", "non_reentrant", "both"});
  axes.methods = {Method::reentrant, Method::non_reentrant};
  if (method < 2) axes.methods = {static_cast<Method>(method)};
  axes.model_parallel_size = given["model-parallel-size"].as<std::int32_t>();
  if (axes.model_parallel_size < 1)
    throw UsageError("--model-parallel-size takes a positive number");
  const auto version = deepspeed_version_from_text(text("deepspeed-version"));
  if (!version) throw UsageError("--deepspeed-version takes a version such as 0.19.8");
  axes.deepspeed_version = *version;
  axes.uneven = given.count("uneven") != 0;
  if (const auto confs = option<std::vector<std::string>>(given, "alloc-conf")) {
    axes.alloc_confs = parse_alloc_confs(*confs);
  }
  return axes;
}

// A plan needs a budget that somebody chose.
const Planner* read_planner(const po::variables_map& given) {
  const bool has_budget = given.count("budget") != 0;
  if (!has_budget && !given["planner"].defaulted()) {
    throw UsageError("--planner needs the --budget that it plans for");
  }
  std::vector<std::string> names = planner_names();
  names.emplace_back("none");
  const std::size_t chosen = choose("planner", given["planner"].as<std::string>(), names);
  return has_budget && chosen < planners().size() ? planners()[chosen] : nullptr;
}

SweepOptions read_sweep_options(const po::variables_map& given) {
  SweepOptions options;
  options.record = read_record_request(given, given["TRACE"].as<std::string>());
  options.config = option<std::string>(given, "config");
  options.values_from = option<std::string>(given, "values-from");
  options.blocks = option<std::string>(given, "blocks");
  options.output = option<std::string>(given, "output");
  options.axes = parse_axes(given);
  if (const auto keys = option<std::string>(given, "fix")) {
    if (!options.config) throw UsageError("--fix needs the --config that it takes the values from");
    options.fixed = split_list(*keys);
  }
  if (const auto budget = option<std::string>(given, "budget"))
    options.budget_bytes = parse_bytes(*budget);
  options.planner = read_planner(given);
  if (const auto budget = option<std::string>(given, "host-budget")) {
    if (options.planner == nullptr) {
      throw UsageError("--host-budget is a plan's; it needs --budget and a --planner");
    }
    options.host_budget_bytes = parse_bytes(*budget);
  }
  options.limit = static_cast<PeakLimit>(choose("limit", given["limit"].as<std::string>(),
                                                {"automatic", "live", "allocated", "reserved"}));
  options.build.hold_outputs = given.count("hold-outputs") != 0;
  options.execute.repeat = given["repeat"].as<std::int32_t>();
  if (options.execute.repeat < 1) throw UsageError("--repeat takes a positive number");
  options.executes = given.count("no-execute") == 0;
  options.machine = option<std::string>(given, "machine");
  if (options.machine && options.executes) {
    throw UsageError(
        "--machine predicts another machine's times, with which an execution here cannot be "
        "compared; add --no-execute");
  }
  options.resumes = given.count("resume") != 0;
  if (options.resumes && !options.output) throw UsageError("--resume needs the folder, -o DIR");
  options.is_strict = given.count("strict") != 0;
  for (const char* axis :
       {"partition-activations", "cpu-checkpointing", "contiguous-memory-optimization"}) {
    const bool asks_for_it = !given[axis].defaulted() && given[axis].as<std::string>() != "off";
    options.names_settings = options.names_settings || asks_for_it;
  }
  options.tolerance_bytes = parse_bytes(given["tolerance"].as<std::string>());
  options.time_tolerance_percent = option<double>(given, "time-tolerance");
  return options;
}

// A file of measured rates, or the data sheet of a known GPU.
MachineRates machine_rates(const std::string& machine) {
  if (machine.ends_with(".json")) return read_machine(machine);
  return rates_of(gpu_profile(machine));
}

void print_progress(const SweepProgress& progress, std::chrono::steady_clock::time_point begin,
                    const Streams& streams) {
  if (!streams.err_is_terminal) return;
  streams.err << "\r\033[K";
  if (progress.done == progress.total) return;
  streams.err << progress.done << "/" << progress.total << "  " << progress.setting;
  if (progress.done > 0) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    const double left = spent.count() / static_cast<double>(progress.done) *
                        static_cast<double>(progress.total - progress.done);
    streams.err << "  (" << format_seconds(std::ceil(left)) << " left)";
  }
  streams.err << std::flush;
}

// The recommended configuration: the user's file with the recommended keys, or a new one.
std::string recommended_config(const Sweep& sweep, const std::optional<Config>& config) {
  const std::string empty = "{\n}\n";
  const Config base = config ? *config : parse_config("ds_config.json", empty);
  if (!sweep.recommended.written) return base.text;
  const Setting& setting = sweep.rows[sweep.recommended.written->row].setting;
  if (!setting.number_checkpoints) return base.text;
  return with_block(base, block_of(setting, base.activation_checkpointing));
}

void write_config(const SweepOptions& options, const Sweep& sweep,
                  const std::optional<Config>& config, const Streams& streams) {
  const std::string path = (std::filesystem::path(*options.output) / "ds_config.json").string();
  write_file(path, recommended_config(sweep, config));
  if (!sweep.recommended.written) {
    streams.err << "nothing fits, so " << path << " is "
                << (config ? "your file as it was" : "empty") << '\n';
  } else if (!sweep.rows[sweep.recommended.written->row].setting.number_checkpoints) {
    streams.err << "no checkpointing is best here, so " << path << " is "
                << (config ? "your file as it was" : "empty") << '\n';
  }
}

ExitCode judge(const SweepOptions& options, const Sweep& sweep, const Streams& streams) {
  bool differs = false;
  bool fails = false;
  for (const SweepRow& row : sweep.rows) {
    if (row.gradients == GradientVerdict::differ || row.status == Status::failed) fails = true;
    if (!row.measured || !row.predicted || row.status != Status::ok) continue;
    const StepFigures& measured = row.measured->figures;
    for (const PeakDifference& difference : peak_differences(measured, *row.predicted)) {
      if (difference.bytes <= options.tolerance_bytes) continue;
      differs = true;
      streams.err << "measured " << difference.peak << " of " << describe(row)
                  << " differs from the predicted one by " << difference.bytes << " B\n";
    }
    if (!options.time_tolerance_percent || !measured.step_seconds || !row.predicted->step_seconds)
      continue;
    const double time_error = std::abs(*measured.step_seconds / *row.predicted->step_seconds - 1);
    if (100 * time_error > *options.time_tolerance_percent) differs = true;
  }
  if (fails) return ExitCode::failed;
  if (sweep.budget_bytes && !sweep.recommended.fastest) return ExitCode::nothing_fits;
  return differs ? ExitCode::differs : ExitCode::done;
}

// `timed`: the step with another machine's times.
SweepRequest make_request(const SweepOptions& options, const OpenedStep& step,
                          const std::optional<StepTrace>& timed,
                          const std::optional<Config>& config, const Arguments& line) {
  SweepRequest request{.trace = step.trace,
                       .timed = timed ? &*timed : nullptr,
                       .time_model = options.machine.value_or(""),
                       .runs = find_blocks(step.trace, options.blocks),
                       .settings = {},
                       .yours = {},
                       .lists_every_invalid = options.names_settings,
                       .build = options.build,
                       .execute = options.execute,
                       .budget_bytes = options.budget_bytes,
                       .is_default_budget = false,
                       .limit = options.limit,
                       .planner = options.planner,
                       .host_budget_bytes = options.host_budget_bytes,
                       .provenance = step.trace.provenance,
                       .notes = step.notes,
                       .folder = options.output,
                       .resumes = options.resumes};
  if (!request.budget_bytes && step.trace.device.memory_bytes) {
    request.budget_bytes =
        *step.trace.device.memory_bytes - step.trace.device.context_bytes.value_or(0);
    request.is_default_budget = true;
  }
  request.provenance.tool = tool_version();
  request.provenance.command_line = joined(line);
  request.provenance.created = utc_now();
  SweepAxes axes = options.axes;
  if (config) fix_axes(axes, options.fixed, config->activation_checkpointing);
  for (const std::string& conf : axes.alloc_confs) check_alloc_conf(step.trace, conf);
  request.settings = expand(axes, request.runs);
  if (request.runs.empty())
    request.notes.emplace_back("no repeated blocks were found; name them with --blocks");
  if (!config) return request;
  OwnSetting own = own_setting(config->activation_checkpointing, axes, request.runs);
  if (own.assumed) request.notes.push_back(*own.assumed);
  auto found = std::find(request.settings.begin(), request.settings.end(), own.setting);
  if (found == request.settings.end()) {
    // No checkpointing is one row, whatever other keys say.
    const bool is_plain =
        !own.setting.number_checkpoints && !own.setting.contiguous_memory_optimization;
    if (is_plain && !request.settings.empty() && !request.settings.front().number_checkpoints) {
      found = request.settings.begin();
    } else {
      found = request.settings.insert(request.settings.end(), own.setting);
    }
  }
  request.yours = static_cast<std::size_t>(found - request.settings.begin());
  return request;
}

const Exporter& exporter(std::string_view name) {
  return **std::find_if(exporters().begin(), exporters().end(),
                        [&](const Exporter* exporter) { return exporter->name() == name; });
}

void write_page(const std::string& folder) {
  std::ostringstream page;
  exporter("html").write(*open_sweep(folder), page);
  write_file((std::filesystem::path(folder) / "report.html").string(), page.str());
}

}  // namespace

ExitCode run_sweep_command(const Arguments& arguments, const Streams& streams) {
  const auto given =
      parse_options("sweep", "TRACE is an exported program (.pt2) or a recorded step (.json.gz).",
                    describe_sweep_options(), {"TRACE"}, arguments, streams);
  if (!given) return ExitCode::done;
  const SweepOptions options = read_sweep_options(*given);
  Arguments line{"sweep"};
  line.insert(line.end(), arguments.begin(), arguments.end());
  std::optional<Config> config;
  if (options.config) config = read_config(*options.config);
  if (options.output) check_sweep_folder(*options.output, options.resumes);
  const OpenedStep step = open_step(
      {.record = options.record, .values_from = options.values_from, .executes = options.executes},
      line, streams);
  std::optional<StepTrace> timed;
  if (options.machine) timed = with_modelled_times(step.trace, machine_rates(*options.machine));
  const SweepRequest request = make_request(options, step, timed, config, line);
  if (options.output) {
    make_folder(*options.output);
  } else {
    streams.err << "nothing is kept on disk; name a folder with -o to keep it\n";
  }
  const InterruptGuard guard;
  const auto begin = std::chrono::steady_clock::now();
  const Sweep sweep = run_sweep(
      request, step.execution.get(),
      [&](const SweepProgress& progress) { print_progress(progress, begin, streams); },
      InterruptGuard::was_interrupted());
  if (options.output) {
    write_step_trace(step.trace,
                     (std::filesystem::path(*options.output) / "step.json.gz").string());
    write_config(options, sweep, config, streams);
    write_page(*options.output);
  }
  exporter("table").write(SweepOnly(sweep), streams.out);
  if (InterruptGuard::was_interrupted()) {
    streams.err << "tidemark: interrupted; go on with the same command and --resume\n";
    return ExitCode::failed;
  }
  return judge_unanswered_calls(judge(options, sweep, streams), step.trace, options.is_strict,
                                streams);
}

}  // namespace tidemark
