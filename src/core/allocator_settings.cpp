// PYTORCH_ALLOC_CONF as torch 2.11.0 reads it: twice, once for every accelerator and once for CUDA,
// both times taking whatever stands where a separator should.
#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <string_view>

#include "tidemark/allocator.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/one_line.hpp"

namespace tidemark {

namespace {

// No device has more; sums of a few of it do not overflow.
constexpr Bytes unlimited = Bytes{1} << 60;
constexpr const char* segment_size_key = "large_segment_size_mb";

std::vector<std::string> tokens_of(const std::string& text) {
  std::vector<std::string> tokens;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) tokens.push_back(word);
    word.clear();
  };
  for (const char c : text) {
    if (c == ',' || c == ':' || c == '[' || c == ']') {
      end_word();
      tokens.emplace_back(1, c);
    } else if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      word += c;
    }
  }
  end_word();
  return tokens;
}

class SettingsParser {
 public:
  explicit SettingsParser(const std::string& text) : text_(text), tokens_(tokens_of(text)) {}

  AllocatorSettings parse() {
    find_segment_size();
    while (position_ < tokens_.size()) {
      key_ = next("a key");
      parse_value();
      if (position_ < tokens_.size()) ++position_;  // the comma, as torch hopes
    }
    return settings_;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw UsageError(
        one_line("the allocator settings '" + text_ + "' are refused by torch: " + problem));
  }

  const std::string& next(const char* wanted) {
    if (position_ >= tokens_.size()) fail(key_ + " lacks " + wanted);
    return tokens_[position_++];
  }

  // A separator is skipped unseen, but has to be there.
  void skip_separator() { (void)next("a ':' and a value"); }

  std::uint64_t read_integer() {
    const std::string& token = next("a number");
    return to_integer(token);
  }

  [[nodiscard]] std::uint64_t to_integer(const std::string& token) const {
    try {
      return std::stoull(token);
    } catch (const std::logic_error&) {
      fail(key_ + " takes a whole number, not '" + token + "'");
    }
  }

  double read_number() {
    const std::string& token = next("a number");
    try {
      return std::stod(token);
    } catch (const std::logic_error&) {
      fail(key_ + " takes a number, not '" + token + "'");
    }
  }

  bool read_switch() {
    const std::string& token = next("True or False");
    if (token != "True" && token != "False") {
      fail(key_ + " takes True or False, not '" + token + "'");
    }
    return token == "True";
  }

  // A count of mebibytes of at least `smallest`.
  Bytes read_mebibytes(Bytes smallest) {
    const std::uint64_t value = read_integer();
    if (value < static_cast<std::uint64_t>(smallest)) {
      fail(key_ + " must be at least " + std::to_string(smallest) + ", not " +
           std::to_string(value));
    }
    const auto most = static_cast<std::uint64_t>(unlimited / mebibyte);
    return static_cast<Bytes>(std::min(value, most)) * mebibyte;
  }

  void parse_value() {
    if (key_ == segment_size_key) {
      skip_separator();
      (void)next("a number");  // read already
    } else if (key_ == "max_split_size_mb") {
      skip_separator();
      settings_.max_split_bytes = read_mebibytes(settings_.large_segment_bytes / mebibyte);
    } else if (key_ == "max_non_split_rounding_mb") {
      skip_separator();
      settings_.max_non_split_rounding_bytes =
          read_mebibytes(settings_.large_segment_bytes / mebibyte);
    } else if (key_ == "garbage_collection_threshold") {
      skip_separator();
      settings_.garbage_collection_threshold = read_share();
    } else if (key_ == "roundup_power2_divisions") {
      skip_separator();
      parse_divisions();
    } else if (key_ == "expandable_segments") {
      skip_separator();
      settings_.expandable_segments = read_switch();
    } else {
      parse_cuda_value();
    }
  }

  // Torch looks for this key before it reads the others, wherever it stands: two of them must not
  // be smaller.
  void find_segment_size() {
    while (position_ < tokens_.size()) {
      key_ = tokens_[position_++];
      if (key_ != segment_size_key) continue;
      skip_separator();
      settings_.large_segment_bytes = read_mebibytes(11);
    }
    position_ = 0;
    settings_.max_non_split_rounding_bytes = settings_.large_segment_bytes;
  }

  // What decides no bytes is checked and left.
  void parse_cuda_value() {
    if (key_ == "backend") {
      skip_separator();
      const std::string& backend = next("native or cudaMallocAsync");
      if (backend != "native" && backend != "cudaMallocAsync") {
        fail("backend takes native or cudaMallocAsync, not '" + backend + "'");
      }
      settings_.is_native = backend == "native";
    } else if (key_ == "per_process_memory_fraction") {
      skip_separator();
      settings_.memory_fraction = read_number();
      if (!(settings_.memory_fraction >= 0 && settings_.memory_fraction <= 1)) {
        fail(key_ + " takes a number from 0 to 1");
      }
    } else if (key_ == "pinned_num_register_threads") {
      skip_separator();
      const std::uint64_t threads = read_integer();
      if (!std::has_single_bit(threads) || threads > 128) {
        fail(key_ + " takes a power of two up to 128");
      }
    } else if (key_ == "pinned_reserve_segment_size_mb") {
      skip_separator();
      if (read_integer() == 0) fail(key_ + " must be greater than 0");
    } else if (is_switch_without_bytes()) {
      skip_separator();
      (void)read_switch();
    } else {
      fail("'" + key_ + "' is no key of it");
    }
  }

  [[nodiscard]] bool is_switch_without_bytes() const {
    return key_ == "pinned_use_background_threads" || key_ == "release_lock_on_cudamalloc" ||
           key_ == "release_lock_on_hipmalloc" || key_ == "pinned_use_cuda_host_register" ||
           key_ == "pinned_use_hip_host_register" || key_ == "graph_capture_record_stream_reuse";
  }

  double read_share() {
    const double share = read_number();
    if (!(share > 0 && share < 1)) fail(key_ + " takes a number between 0 and 1, both excluded");
    return share;
  }

  // "4" for every interval, or "[256:1,512:2,>:4]" by the size in MiB that an interval begins at.
  void parse_divisions() {
    const std::string& first = next("a number or a list");
    if (first != "[") {
      settings_.roundup_power2_divisions.fill(power_of_two(to_integer(first), false));
      return;
    }
    is_first_interval_ = true;
    last_interval_ = 0;
    while (true) {
      const std::string& boundary = next("its closing ']'");
      if (boundary == "]") return;
      skip_separator();
      const std::int64_t divisions = power_of_two(read_integer(), true);
      set_interval(boundary, divisions);
      if (position_ >= tokens_.size()) fail(key_ + " lacks its closing ']'");
      if (tokens_[position_] != "]") ++position_;
    }
  }

  void set_interval(const std::string& boundary, std::int64_t divisions) {
    auto& all = settings_.roundup_power2_divisions;
    if (boundary == ">") {
      std::fill(all.begin() + static_cast<std::ptrdiff_t>(std::min(last_interval_ + 1, all.size())),
                all.end(), divisions);
      return;
    }
    const std::uint64_t size = to_integer(boundary);
    if (!std::has_single_bit(size)) fail(key_ + " takes intervals that are powers of two");
    const std::size_t interval =
        std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(size)) - 1, all.size() - 1);
    if (is_first_interval_) {
      std::fill(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(interval), divisions);
      is_first_interval_ = false;
    }
    all[interval] = divisions;
    last_interval_ = interval;
  }

  [[nodiscard]] std::int64_t power_of_two(std::uint64_t value, bool may_be_zero) const {
    const bool is_good = std::has_single_bit(value) || (may_be_zero && value == 0);
    if (!is_good) fail(key_ + " takes divisions that are powers of two");
    return static_cast<std::int64_t>(
        std::min(value, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / 2)));
  }

  const std::string& text_;
  std::vector<std::string> tokens_;
  std::size_t position_ = 0;
  std::string key_;
  AllocatorSettings settings_;
  bool is_first_interval_ = true;
  std::size_t last_interval_ = 0;
};

std::string shortest(double value) {
  std::array<char, 40> text{};
  const auto [end, failed] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

}  // namespace

AllocatorSettings parse_allocator_settings(const std::string& text) {
  return SettingsParser(text).parse();
}

std::string format_allocator_settings(const AllocatorSettings& settings) {
  const auto mebibytes = [](Bytes bytes) { return std::to_string(bytes / mebibyte); };
  std::string text =
      "large_segment_size_mb:" + mebibytes(settings.large_segment_bytes) +
      ",max_non_split_rounding_mb:" + mebibytes(settings.max_non_split_rounding_bytes) +
      ",expandable_segments:" + (settings.expandable_segments ? "True" : "False");
  if (settings.max_split_bytes)
    text += ",max_split_size_mb:" + mebibytes(*settings.max_split_bytes);
  if (settings.garbage_collection_threshold > 0) {
    text += ",garbage_collection_threshold:" + shortest(settings.garbage_collection_threshold);
  }
  if (settings.roundup_power2_divisions != AllocatorSettings{}.roundup_power2_divisions) {
    text += ",roundup_power2_divisions:[";
    for (std::size_t i = 0; i < AllocatorSettings::roundup_intervals; ++i) {
      text += (i == 0 ? "" : ",") + std::to_string(std::size_t{1} << i) + ":" +
              std::to_string(settings.roundup_power2_divisions[i]);
    }
    text += "]";
  }
  if (settings.memory_fraction < 1) {
    text += ",per_process_memory_fraction:" + shortest(settings.memory_fraction);
  }
  return text;
}

}  // namespace tidemark
