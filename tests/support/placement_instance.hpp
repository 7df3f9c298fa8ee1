#pragma once

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tidemark/placement.hpp"

namespace tidemark::test {

// A header, then lines of id, begin, end, bytes, as minimalloc's instances have them. Empty: there
// is no such file.
inline std::vector<Lifetime> read_placement_instance(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  std::vector<Lifetime> lifetimes;
  while (std::getline(file, line)) {
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream fields(line);
    std::string id;
    Lifetime lifetime;
    if (fields >> id >> lifetime.begin >> lifetime.end >> lifetime.bytes) {
      lifetimes.push_back(lifetime);
    }
  }
  return lifetimes;
}

}  // namespace tidemark::test
