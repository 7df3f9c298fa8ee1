#include "command_lint.hpp"

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <variant>

#include "lint_output.hpp"
#include "options.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/lint.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

po::options_description describe_lint_options() {
  po::options_description options("options");
  options.add_options()("trace", po::value<std::string>(),
                        "recorded step (.json.gz, or a sweep's folder) for the rules that need "
                        "numbers")("blocks", po::value<std::string>(),
                                   "pattern of module paths that are the blocks")(
      "model-parallel-size", po::value<std::int32_t>(), "ranks that share a checkpoint")(
      "checkpoints", po::value<std::int32_t>(),
      "checkpoints that your code makes between two backward passes")(
      "sequence-parallel", "the ranks' inputs differ, as under Megatron's sequence parallelism")(
      "deepspeed-version", po::value<std::string>()->default_value("0.19.8"),
      "whose behaviour is meant")(
      "target", po::value<std::string>()->default_value("deepspeed"),
      "whose training loop reads the file: deepspeed, hf, accelerate, lightning or "
      "megatron-deepspeed")("json", "print JSON")("sarif", "print SARIF 2.1.0 for code scanning");
  return options;
}

std::optional<std::int32_t> positive(const po::variables_map& given, const std::string& name) {
  const auto value = option<std::int32_t>(given, name);
  if (value && *value < 1) throw UsageError("--" + name + " takes a positive number");
  return value;
}

std::optional<LintStep> open_step(const po::variables_map& given) {
  const auto trace = option<std::string>(given, "trace");
  if (!trace) return std::nullopt;
  std::filesystem::path path = *trace;
  if (std::filesystem::is_directory(path)) path /= "step.json.gz";
  ModelInput input = read_model(path.string());
  auto* step = std::get_if<StepTrace>(&input);
  if (step == nullptr) {
    throw InputError(path.string(), "",
                     "is a program, not a recorded step; record it first: tidemark record " +
                         path.string() + " -o step.json.gz");
  }
  std::vector<BlockRun> runs = find_blocks(*step, option<std::string>(given, "blocks"));
  return LintStep{.trace = std::move(*step), .runs = std::move(runs)};
}

}  // namespace

ExitCode run_lint(const Arguments& arguments, const Streams& streams) {
  const auto given = parse_options("lint", "CONFIG is a DeepSpeed configuration file.",
                                   describe_lint_options(), {"CONFIG"}, arguments, streams);
  if (!given) return ExitCode::done;
  const auto version = deepspeed_version_from_text((*given)["deepspeed-version"].as<std::string>());
  if (!version) throw UsageError("--deepspeed-version takes a version such as 0.19.8");
  const auto target = static_cast<LintTarget>(
      choose("target", (*given)["target"].as<std::string>(),
             {"deepspeed", "hf", "accelerate", "lightning", "megatron-deepspeed"}));
  if (given->count("json") + given->count("sarif") > 1) {
    throw UsageError("--json and --sarif are two forms of one output; give one of them");
  }
  const auto model_parallel_size = positive(*given, "model-parallel-size");
  const auto checkpoints = positive(*given, "checkpoints");
  const Config config = read_config((*given)["CONFIG"].as<std::string>());
  const std::optional<LintStep> step = open_step(*given);
  const std::vector<LintFinding> findings =
      lint({.config = config,
            .target = target,
            .deepspeed_version = *version,
            .model_parallel_size = model_parallel_size,
            .checkpoints = checkpoints,
            .sequence_parallel = given->count("sequence-parallel") != 0,
            .step = step ? &*step : nullptr});
  if (given->count("json") != 0) {
    print_lint_json(config, findings, streams.out);
  } else if (given->count("sarif") != 0) {
    print_lint_sarif(config, findings, streams.out);
  } else {
    print_lint_text(config, findings, streams.out);
  }
  const bool has_error =
      std::any_of(findings.begin(), findings.end(),
                  [](const LintFinding& finding) { return finding.severity == Severity::error; });
  return has_error ? ExitCode::failed : ExitCode::done;
}

}  // namespace tidemark
