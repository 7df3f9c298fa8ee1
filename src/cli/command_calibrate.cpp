#include "command_calibrate.hpp"

#include <ostream>

#include "options.hpp"
#include "tidemark/device.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

ExitCode run_calibrate(const Arguments& arguments, const Streams& streams) {
  namespace po = boost::program_options;
  po::options_description options("options");
  options.add_options()("device", po::value<std::string>()->default_value("auto"),
                        "what to calibrate: auto, cpu or cuda[:N]")(
      "threads", po::value<std::int32_t>()->default_value(0), "CPU threads; 0: the machine's own")(
      "output,o", po::value<std::string>(), "the file to write, such as machine.json");
  const auto given = parse_options(
      "calibrate",
      "Measures what a machine achieves, for times modelled elsewhere (--machine): matrix\n"
      "products, convolutions and attention, forward and backward, memory, random numbers,\n"
      "exponentials, masks and gathering, normalization and pooling, each in several sizes.\n"
      "Takes under a minute; other work on the machine makes the rates too low. Of a GPU the\n"
      "file also holds what the card is, in cuDNN's own words too, so that --device\n"
      "phantom:custom:machine.json is that card on any machine.",
      options, {}, arguments, streams);
  if (!given) return ExitCode::done;
  const auto device =
      make_device((*given)["device"].as<std::string>(), (*given)["threads"].as<std::int32_t>());
  const MachineRates rates = device->calibrate();
  for (const std::string& note : rates.notes) streams.err << "note: " << note << '\n';
  const std::string text = format_machine(rates);
  if (const auto output = option<std::string>(*given, "output")) {
    write_file(*output, text);
  } else {
    streams.out << text;
  }
  return ExitCode::done;
}

}  // namespace tidemark
