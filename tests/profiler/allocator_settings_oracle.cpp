// The parser of PYTORCH_ALLOC_CONF against torch's own: both accept the same texts, and understand
// the same by them. Random texts are made of torch's words, whole and broken.
//
//   allocator_settings_oracle SEED TEXTS
#include <c10/cuda/CUDACachingAllocator.h>

#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <limits>
#include <optional>
#include <random>
#include <string>

#include "tidemark/allocator.hpp"
#include "tidemark/errors.hpp"

namespace {

using Config = c10::CachingAllocator::AcceleratorAllocatorConfig;
using CudaConfig = c10::cuda::CUDACachingAllocator::CUDAAllocatorConfig;
using tidemark::AllocatorSettings;
using tidemark::Bytes;

AllocatorSettings understood_by_torch() {
  AllocatorSettings settings;
  // More than any device has is one and the same.
  const auto bytes = [](std::size_t size) {
    return static_cast<Bytes>(std::min(size, std::size_t{1} << 60));
  };
  settings.large_segment_bytes = bytes(Config::large_segment_size());
  if (Config::max_split_size() != std::numeric_limits<std::size_t>::max()) {
    settings.max_split_bytes = bytes(Config::max_split_size());
  }
  settings.max_non_split_rounding_bytes = bytes(Config::max_non_split_rounding_size());
  settings.garbage_collection_threshold = Config::garbage_collection_threshold();
  for (std::size_t i = 0; i < AllocatorSettings::roundup_intervals; ++i) {
    settings.roundup_power2_divisions[i] =
        static_cast<std::int64_t>(Config::roundup_power2_divisions()[i]);
  }
  settings.expandable_segments = Config::use_expandable_segments();
  settings.memory_fraction = CudaConfig::per_process_memory_fraction();
  return settings;
}

std::optional<AllocatorSettings> torch_settings(const std::string& text) {
  // Torch keeps some settings of earlier texts.
  CudaConfig::instance();
  c10::CachingAllocator::setAllocatorSettings(
      tidemark::format_allocator_settings(AllocatorSettings{}) +
      ",per_process_memory_fraction:1.0");
  try {
    c10::CachingAllocator::setAllocatorSettings(text);
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return understood_by_torch();
}

std::optional<AllocatorSettings> our_settings(const std::string& text) {
  try {
    return tidemark::parse_allocator_settings(text);
  } catch (const tidemark::UsageError&) {
    return std::nullopt;
  }
}

// True where both refuse, or both accept and understand the same; the written form, too.
bool agree(const std::string& text) {
  const auto theirs = torch_settings(text);
  const auto ours = our_settings(text);
  if (theirs != ours) {
    std::cerr << "'" << text << "': torch " << (theirs ? "accepts" : "refuses") << ", we "
              << (ours ? "accept" : "refuse") << '\n';
    return false;
  }
  if (ours && torch_settings(tidemark::format_allocator_settings(*ours)) != ours) {
    std::cerr << "'" << text << "' is not the same once written as '"
              << tidemark::format_allocator_settings(*ours) << "'\n";
    return false;
  }
  return true;
}

constexpr std::array<const char*, 29> fixed_texts{
    "",
    "expandable_segments:True",
    "expandable_segments:true",
    "expandable_segments",
    "expandable_segments:",
    "max_split_size_mb:20",
    "max_split_size_mb:19",
    "max_split_size_mb:-1",
    "max_split_size_mb=128",
    "max_split_size_mb,128",
    "max_split_size_mb:128:garbage_collection_threshold:0.5",
    "large_segment_size_mb:11",
    "large_segment_size_mb:10",
    "large_segment_size_mb:64,max_split_size_mb:32",
    "max_split_size_mb:32,large_segment_size_mb:64",
    "large_segment_size_mb:64,max_non_split_rounding_mb:64",
    "garbage_collection_threshold:1.0",
    "garbage_collection_threshold:0",
    "garbage_collection_threshold: 0.8 , max_split_size_mb : 512",
    "roundup_power2_divisions:3",
    "roundup_power2_divisions:0",
    "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
    "roundup_power2_divisions:[64:8,256:4",
    "roundup_power2_divisions:[>:4]",
    "roundup_power2_divisions:[64:3]",
    "per_process_memory_fraction:0.5",
    "per_process_memory_fraction:1.5",
    "pinned_num_register_threads:256",
    "no_such_key:1",
};

class RandomText {
 public:
  explicit RandomText(std::uint32_t seed) : random_(seed) {}

  std::string make() {
    std::string text;
    for (std::uint32_t i = below(3) + 1; i > 0; --i) {
      text += pick(keys) + std::string(below(12) == 0 ? pick(separators) : ":") + value();
      if (i > 1) text += below(12) == 0 ? pick(separators) : ",";
    }
    if (below(10) == 0 && !text.empty())
      text.erase(below(static_cast<std::uint32_t>(text.size())), 1);
    return text;
  }

 private:
  static constexpr std::array<const char*, 12> keys{
      "large_segment_size_mb",         "max_split_size_mb",
      "max_non_split_rounding_mb",     "garbage_collection_threshold",
      "roundup_power2_divisions",      "expandable_segments",
      "pinned_use_background_threads", "release_lock_on_cudamalloc",
      "pinned_num_register_threads",   "pinned_reserve_segment_size_mb",
      "per_process_memory_fraction",   "graph_capture_record_stream_reuse"};
  static constexpr std::array<const char*, 7> separators{":", ",", "[", "]", " ", "::", ""};
  static constexpr std::array<const char*, 14> values{
      "True", "False", "4", "16", "20", "64", "0.5", "0", "1", "1x", "x", "1000", "-3", "1e3"};

  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }

  template <std::size_t size>
  const char* pick(const std::array<const char*, size>& words) {
    return words.at(below(size));
  }

  std::string value() {
    if (below(5) != 0) return pick(values);
    std::string list = "[";
    for (std::uint32_t i = below(4) + 1; i > 0; --i) {
      list += (below(4) == 0 ? ">" : std::to_string(1U << below(18))) + ":" +
              std::to_string(below(8) == 0 ? 3 : 1U << below(5)) + (i > 1 ? "," : "");
    }
    return list + "]";
  }

  std::mt19937 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: allocator_settings_oracle SEED TEXTS\n";
    return 2;
  }
  RandomText random(static_cast<std::uint32_t>(std::stoul(argv[1])));
  const int count = std::stoi(argv[2]);
  int accepted = 0;
  bool all_agree = true;
  for (const char* text : fixed_texts) all_agree = agree(text) && all_agree;
  for (int i = 0; i < count && all_agree; ++i) {
    const std::string text = random.make();
    all_agree = agree(text);
    accepted += our_settings(text) ? 1 : 0;
  }
  if (!all_agree) return 1;
  std::cout << count << " texts, " << accepted << " of them accepted by both\n";
}
