// Seconds that a placement within 1 MiB takes, and beside them those of another solver, run in
// turn: placement_table FILE.csv... [--beside COMMAND]. A file has a header and lines of id, begin,
// end, bytes, as minimalloc's instances do; COMMAND gets the file's name and must end with status
// 0.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "median.hpp"
#include "placement_instance.hpp"
#include "tidemark/placement.hpp"

namespace {

using tidemark::bench::median;

using tidemark::Lifetime;
using Clock = std::chrono::steady_clock;

constexpr tidemark::Bytes capacity = 1'048'576;
constexpr int repeats = 3;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double own_seconds(const std::string& path) {
  const auto begin = Clock::now();
  const std::vector<Lifetime> lifetimes = tidemark::test::read_placement_instance(path);
  if (lifetimes.empty()) throw std::runtime_error(path + " holds no lifetimes");
  const tidemark::PlacementAnswer answer = tidemark::place_within(lifetimes, capacity);
  const double seconds = since(begin);
  const bool is_placed = answer.verdict == tidemark::PlacementVerdict::placed &&
                         tidemark::check_placement(lifetimes, answer.placement).empty();
  if (!is_placed) throw std::runtime_error(path + " was not placed");
  return seconds;
}

double other_seconds(const std::string& command, const std::string& path) {
  const auto begin = Clock::now();
  if (std::system((command + " '" + path + "' > /dev/null").c_str()) != 0) {
    throw std::runtime_error(command + " failed on " + path);
  }
  return since(begin);
}

void print(const std::string& name, double own, double other, bool has_other) {
  std::printf("%-24s %8.2f", name.c_str(), own);
  if (has_other) std::printf(" %8.2f %8.1f", other, other / own);
  std::printf("\n");
  std::fflush(stdout);
}

int run(const std::vector<std::string>& paths, const std::optional<std::string>& command) {
  std::printf("%-24s %8s%s\n", "seconds", "tidemark", command ? "    other    ratio" : "");
  double own_total = 0;
  double other_total = 0;
  for (const std::string& path : paths) {
    std::vector<double> own;
    std::vector<double> other{0};
    for (int r = 0; r < repeats; ++r) {
      own.push_back(own_seconds(path));
      if (!command) continue;
      if (r == 0) other.clear();
      other.push_back(other_seconds(*command, path));
    }
    own_total += median(own);
    other_total += median(other);
    print(path.substr(path.find_last_of('/') + 1), median(own), median(other), command.has_value());
  }
  print("total", own_total, other_total, command.has_value());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  std::optional<std::string> command;
  for (int a = 1; a < argc; ++a) {
    if (std::string(argv[a]) == "--beside" && a + 1 < argc) {
      command = argv[++a];
    } else {
      paths.emplace_back(argv[a]);
    }
  }
  try {
    return run(paths, command);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
