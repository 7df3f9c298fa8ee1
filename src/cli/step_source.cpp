#include "step_source.hpp"

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "tidemark/errors.hpp"
#include "tidemark/phantom.hpp"
#include "tidemark/phantom_remedy.hpp"

namespace tidemark {

namespace po = boost::program_options;

namespace {

// Where it fails over a call that a phantom refuses, the sentence says what to do.
RecordedStep record_step(Device& device, const Program& program, const RecordOptions& options) {
  try {
    return device.record(program, options);
  } catch (const DeviceError& error) {
    std::vector<PhantomCall> refused = phantom_calls();
    std::erase_if(refused,
                  [](const PhantomCall& call) { return call.answer != PhantomAnswer::refused; });
    std::string sentence = error.what();
    for (const std::string& remedy : phantom_remedies(refused)) {
      if (sentence.find(remedy) == std::string::npos) sentence += "; " + remedy;
    }
    throw DeviceError(sentence);
  }
}

}  // namespace

void add_record_options(po::options_description& options) {
  options.add_options()("device", po::value<std::string>()->default_value("auto"),
                        "where to record: auto, cpu, cuda[:N] or phantom:PROFILE")(
      "seed", po::value<std::int64_t>()->default_value(0),
      "torch.manual_seed right before the step, and for values that the file lacks")(
      "threads", po::value<std::int32_t>()->default_value(0), "CPU threads; 0: the machine's own")(
      "loss", po::value<std::string>(), "the output that is the loss, or sum")(
      "optimizer", po::value<std::string>()->default_value("none"),
      "none, sgd or adamw, optionally :loop, :foreach or :fused")(
      "accumulate-gradients", "gradients exist before the step, as in a second micro-batch");
}

void parse_optimizer(const std::string& text, RecordOptions& options) {
  const std::size_t colon = text.find(':');
  const std::size_t kind = choose("optimizer", text.substr(0, colon), {"none", "sgd", "adamw"});
  options.optimizer = static_cast<Optimizer>(kind);
  if (colon == std::string::npos) return;
  const std::size_t form =
      choose("optimizer", text.substr(colon + 1), {"loop", "foreach", "fused"});
  options.optimizer_form = static_cast<OptimizerForm>(form + 1);
}

RecordRequest read_record_request(const po::variables_map& given, const std::string& path) {
  RecordRequest request;
  request.path = path;
  request.device = given["device"].as<std::string>();
  request.threads = given["threads"].as<std::int32_t>();
  if (request.threads < 0) throw UsageError("--threads takes a positive number");
  request.options.seed = given["seed"].as<std::int64_t>();
  request.options.loss = option<std::string>(given, "loss");
  request.options.accumulate_gradients = given.count("accumulate-gradients") != 0;
  parse_optimizer(given["optimizer"].as<std::string>(), request.options);
  return request;
}

RecordedProgram record_program(std::unique_ptr<Device> device, const RecordRequest& request,
                               Program program, const Arguments& command_line) {
  RecordedProgram recorded;
  recorded.device = std::move(device);
  recorded.program = std::make_unique<Program>(std::move(program));
  recorded.step = record_step(*recorded.device, *recorded.program, request.options);
  Provenance& provenance = recorded.step.trace.provenance;
  provenance.tool = tool_version();
  provenance.command_line = joined(command_line);
  provenance.created = utc_now();
  provenance.model = request.path;
  if (recorded.step.trace.device.kind == DeviceKind::phantom) {
    provenance.calls_without_answer = phantom_calls();
  }
  return recorded;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace tidemark
