// Where a command's step comes from: recorded now from an exported program, or a saved trace.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "command.hpp"
#include "options.hpp"
#include "tidemark/device.hpp"
#include "tidemark/program.hpp"

namespace tidemark {

struct RecordRequest {
  std::string path;
  std::string device = "auto";
  std::int32_t threads = 0;
  RecordOptions options;
};

void add_record_options(boost::program_options::options_description& options);
[[nodiscard]] RecordRequest read_record_request(const boost::program_options::variables_map& given,
                                                const std::string& path);

struct RecordedProgram {
  std::unique_ptr<Device> device;
  std::unique_ptr<Program> program;
  RecordedStep step;
};
// `device` comes from make_device(), which must be called before anything is printed: a phantom
// starts the program again.
[[nodiscard]] RecordedProgram record_program(std::unique_ptr<Device> device,
                                             const RecordRequest& request, Program program,
                                             const Arguments& command_line);

// "--optimizer adamw:foreach"
void parse_optimizer(const std::string& text, RecordOptions& options);

[[nodiscard]] std::string utc_now();

}  // namespace tidemark
