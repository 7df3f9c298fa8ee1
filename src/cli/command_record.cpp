#include "command_record.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>
#include <variant>

#include "step_source.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"
#include "tidemark/output_place.hpp"
#include "tidemark/report.hpp"
#include "unanswered_calls.hpp"

namespace tidemark {

namespace {

namespace po = boost::program_options;

std::string seventeen_digits(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

void print_json(const RecordedStep& step, bool with_values, std::ostream& out) {
  nlohmann::ordered_json json;
  json["loss"] = step.loss;
  if (with_values) {
    json["gradient_norms"] = nlohmann::ordered_json::object();
    for (const GradientNorm& gradient : step.gradient_norms) {
      json["gradient_norms"][gradient.parameter] = gradient.norm;
    }
    json["gradient_checksums"] = nlohmann::ordered_json::object();
    for (const GradientNorm& gradient : step.gradient_norms) {
      json["gradient_checksums"][gradient.parameter] = gradient.checksum;
    }
  }
  out << json.dump(2) << '\n';
}

void print_text(const RecordedStep& step, bool with_values, std::ostream& out) {
  out << "loss " << seventeen_digits(step.loss) << '\n';
  if (with_values) {
    for (const GradientNorm& gradient : step.gradient_norms) {
      out << "gradient " << gradient.parameter << " " << seventeen_digits(gradient.norm) << '\n';
    }
  }
  out << "operators " << step.trace.ops.size() << ", storages " << step.trace.storages.size()
      << ", peak " << format_bytes(step.eager_live_peak_bytes) << " (" << step.eager_live_peak_bytes
      << " B)";
  // What the host needs to go through a step without kernels is no step's time.
  if (step.trace.device.kind != DeviceKind::phantom) {
    out << ", step " << format_seconds(step.eager_seconds);
  }
  out << '\n';
  out << "replayed without autograd: gradients " << name(step.replay) << '\n';
}

}  // namespace

ExitCode run_record(const Arguments& arguments, const Streams& streams) {
  po::options_description options("options");
  add_record_options(options);
  options.add_options()("values", "also print each gradient's 2-norm")("json", "print JSON")(
      "strict", "calls that a phantom GPU cannot answer exactly are an error")(
      "output,o", po::value<std::string>(), "the trace to write, such as step.json.gz");
  const auto given = parse_options("record", "MODEL is an exported program (.pt2).", options,
                                   {"MODEL"}, arguments, streams);
  if (!given) return ExitCode::done;
  const auto path = (*given)["MODEL"].as<std::string>();
  const RecordRequest request = read_record_request(*given, path);
  ModelInput input = read_model(path);
  auto* program = std::get_if<Program>(&input);
  if (program == nullptr)
    throw InputError(path, "", "is a recorded step already; give a .pt2 file");
  const auto output = option<std::string>(*given, "output");
  if (output) check_writable(*output);
  Arguments line{"record"};
  line.insert(line.end(), arguments.begin(), arguments.end());
  RecordedProgram recorded = record_program(make_device(request.device, request.threads), request,
                                            std::move(*program), line);
  note_unanswered_calls(recorded.step.trace, recorded.step.notes);
  const bool with_values = given->count("values") != 0;
  if (given->count("json") != 0) {
    print_json(recorded.step, with_values, streams.out);
  } else {
    print_text(recorded.step, with_values, streams.out);
  }
  for (const std::string& note : recorded.step.notes) streams.err << "note: " << note << '\n';
  if (output) write_step_trace(recorded.step.trace, *output);
  const bool differs = recorded.step.replay == GradientVerdict::differ;
  return judge_unanswered_calls(differs ? ExitCode::failed : ExitCode::done, recorded.step.trace,
                                given->count("strict") != 0, streams);
}

}  // namespace tidemark
