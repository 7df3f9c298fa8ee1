// DeepSpeed's configuration file: what it says, and what DeepSpeed would do with it.
// Source: deepspeed/runtime/activation_checkpointing/{config,checkpointing}.py, runtime/config.py.
#include "tidemark/config.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "hjson.hpp"
#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

const std::string block_name = "activation_checkpointing";

constexpr std::array<std::string_view, 6> block_keys{
    "partition_activations", "contiguous_memory_optimization",  "number_checkpoints",
    "cpu_checkpointing",     "synchronize_checkpoint_boundary", "profile"};

// Names that other tools and configure()'s arguments use for the same keys.
struct Alias {
  std::string_view wrong;
  std::string_view right;
};
constexpr std::array<Alias, 7> aliases{
    {{"partitioned_activations", "partition_activations"},
     {"num_checkpoints", "number_checkpoints"},
     {"checkpoint_in_cpu", "cpu_checkpointing"},
     {"contiguous_checkpointing", "contiguous_memory_optimization"},
     {"synchronize", "synchronize_checkpoint_boundary"},
     {"cpu_checkpoint", "cpu_checkpointing"},
     {"contigious_checkpointing", "contiguous_memory_optimization"}}};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string suggestion(const std::string& key) {
  for (const Alias& alias : aliases) {
    if (key == alias.wrong) return std::string(alias.right);
  }
  for (const std::string_view known : block_keys) {
    if (edit_distance(lower(key), known) <= 3) return std::string(known);
  }
  return "";
}

// Python's truth: what DeepSpeed's "if flag:" makes of a value.
bool is_truthy(const HjsonValue& value) {
  struct Truth {
    bool operator()(std::monostate) const { return false; }
    bool operator()(bool flag) const { return flag; }
    bool operator()(long long number) const { return number != 0; }
    bool operator()(double number) const { return number != 0; }
    bool operator()(const std::string& text) const { return !text.empty(); }
    bool operator()(const HjsonObject& object) const { return !object.members.empty(); }
    bool operator()(const HjsonArray& array) const { return !array.items.empty(); }
  };
  return std::visit(Truth{}, value.value);
}

std::string python_type(const HjsonValue& value) {
  static constexpr std::array<const char*, 7> names{"NoneType", "bool", "int", "float",
                                                    "str",      "dict", "list"};
  return names.at(value.value.index());
}

class ConfigReader {
 public:
  ConfigReader(const std::string& path, const std::string& text) : text_(text) {
    config_.path = path;
    config_.text = text;
  }

  Config read() {
    const HjsonValue root = parse_hjson(config_.path, text_);
    const auto* object = std::get_if<HjsonObject>(&root.value);
    if (object == nullptr) {
      throw InputError(config_.path, "",
                       "is no DeepSpeed configuration: it holds no object; write "
                       "its keys in { }");
    }
    check_top_level(*object);
    if (const HjsonMember* block = find_member(*object, block_name)) read_block(block->value);
    check_combinations();
    check_batch_size(*object);
    return std::move(config_);
  }

 private:
  void add(std::string id, Severity severity, const std::string& key, std::string message,
           std::string remedy) {
    config_.findings.push_back({.id = std::move(id),
                                .severity = severity,
                                .key = key.empty() ? block_name : block_name + "." + key,
                                .message = std::move(message),
                                .remedy = std::move(remedy)});
  }

  void check_top_level(const HjsonObject& object);
  void check_batch_size(const HjsonObject& object);
  void read_block(const HjsonValue& value);
  void read_key(const HjsonMember& member);
  void read_flag(const HjsonMember& member, bool& flag);
  void read_number(const HjsonMember& member);
  void check_combinations();

  const std::string& text_;
  Config config_;
  bool number_is_wrong_ = false;
};

void ConfigReader::check_top_level(const HjsonObject& object) {
  for (const HjsonMember& member : object.members) {
    if (member.key == block_name) continue;
    const bool is_wrapper = member.key == "session_params";
    if (is_wrapper || edit_distance(lower(member.key), block_name) <= 3) {
      config_.findings.push_back(
          {.id = "misplaced-block",
           .severity = Severity::warning,
           .key = member.key,
           .message = is_wrapper
                          ? "DeepSpeed does not look for the block inside session_params; it "
                            "is ignored"
                          : "DeepSpeed looks for \"" + block_name +
                                "\" in exactly this "
                                "spelling; this key is ignored",
           .remedy = "Write the block at the top level under \"" + block_name + "\"."});
    }
  }
}

void ConfigReader::check_batch_size(const HjsonObject& object) {
  bool has_size = false;
  for (const char* key : {"train_batch_size", "train_micro_batch_size_per_gpu"}) {
    const HjsonMember* member = find_member(object, key);
    if (member == nullptr || std::holds_alternative<std::monostate>(member->value.value)) continue;
    has_size = true;
    if (!std::holds_alternative<std::string>(member->value.value)) continue;
    config_.findings.push_back(
        {.id = "batch-size-text",
         .severity = Severity::error,
         .key = key,
         .message = "DeepSpeed fails with TypeError: '>' not supported between instances of 'str' "
                    "and 'int' when checkpointing.configure() reads this file",
         .remedy = "Write a number; \"auto\" is understood by the Hugging Face integration only."});
  }
  if (has_size) return;
  config_.findings.push_back({.id = "batch-size-missing",
                              .severity = Severity::error,
                              .key = "train_batch_size",
                              .message =
                                  "DeepSpeed fails with AssertionError: Either train_batch_size or "
                                  "train_micro_batch_size_per_gpu needs to be provided",
                              .remedy = "Add train_micro_batch_size_per_gpu."});
}

void ConfigReader::read_block(const HjsonValue& value) {
  config_.has_block = true;
  const auto* block = std::get_if<HjsonObject>(&value.value);
  if (block == nullptr) {
    add("block-type", Severity::error, "",
        "DeepSpeed fails with AttributeError: '" + python_type(value) +
            "' object has no attribute 'get'",
        "Write the block as an object, { ... }.");
    return;
  }
  for (const HjsonMember& member : block->members) read_key(member);
  add("inert", Severity::note, "",
      "the block does nothing unless the training code calls deepspeed.checkpointing.configure() "
      "and deepspeed.checkpointing.checkpoint(); Hugging Face Trainer and Accelerate never do",
      "Check that your training code calls them, or use the framework's own checkpointing.");
}

void ConfigReader::read_key(const HjsonMember& member) {
  ActivationCheckpointing& block = config_.activation_checkpointing;
  if (member.key == "partition_activations") return read_flag(member, block.partition_activations);
  if (member.key == "cpu_checkpointing") return read_flag(member, block.cpu_checkpointing);
  if (member.key == "profile") return read_flag(member, block.profile);
  if (member.key == "contiguous_memory_optimization") {
    return read_flag(member, block.contiguous_memory_optimization);
  }
  if (member.key == "synchronize_checkpoint_boundary") {
    return read_flag(member, block.synchronize_checkpoint_boundary);
  }
  if (member.key == "number_checkpoints") return read_number(member);
  const std::string meant = suggestion(member.key);
  add("unknown-key", Severity::warning, member.key, "DeepSpeed ignores this key silently",
      meant.empty() ? "Remove it." : "Write \"" + meant + "\" instead.");
}

void ConfigReader::read_flag(const HjsonMember& member, bool& flag) {
  flag = is_truthy(member.value);
  if (std::holds_alternative<bool>(member.value.value)) return;
  add("flag-type", Severity::warning, member.key,
      "DeepSpeed keeps this value as it is and takes it as " +
          std::string(flag ? "true" : "false") + " (Python's truth of a " +
          python_type(member.value) + ")",
      "Write true or false without quotes.");
}

void ConfigReader::read_number(const HjsonMember& member) {
  const HjsonValue& value = member.value;
  if (std::holds_alternative<std::monostate>(value.value)) return;
  if (const auto* number = std::get_if<long long>(&value.value)) {
    config_.activation_checkpointing.number_checkpoints = *number;
    if (*number > 0) return;
    number_is_wrong_ = true;
    add("number-not-positive", Severity::warning, member.key,
        "with contiguous_memory_optimization DeepSpeed fails with IndexError: list index out of "
        "range at the first checkpoint; without it the number does nothing",
        "Write the number of checkpoints that one forward makes.");
    return;
  }
  number_is_wrong_ = true;
  const bool is_flag = std::holds_alternative<bool>(value.value);
  add("number-type", Severity::warning, member.key,
      is_flag ? "DeepSpeed takes it as 1 or 0 buffers, so contiguous checkpointing fails with "
                "IndexError: list index out of range"
              : "with contiguous_memory_optimization DeepSpeed fails later with TypeError: '" +
                    python_type(value) + "' object cannot be interpreted as an integer",
      "Write a whole number without quotes.");
}

void ConfigReader::check_combinations() {
  const ActivationCheckpointing& block = config_.activation_checkpointing;
  const bool contiguous = block.contiguous_memory_optimization;
  if (contiguous && !block.partition_activations) {
    add("contiguous-without-partition", Severity::error, "contiguous_memory_optimization",
        "DeepSpeed fails with AssertionError: Contiguous Checkpointing is only available with "
        "partitioned activations. Set partitioned activations to true in deepspeed config",
        "Set partition_activations to true, or turn this off.");
  } else if (contiguous && !block.number_checkpoints && !number_is_wrong_) {
    add("contiguous-without-number", Severity::error, "number_checkpoints",
        "DeepSpeed fails with AssertionError: Must specify the number of layers with contiguous "
        "memory checkpointing",
        "Set number_checkpoints to the number of checkpoints that one forward makes.");
  }
  if (block.number_checkpoints && !contiguous) {
    add("number-without-contiguous", Severity::note, "number_checkpoints",
        "DeepSpeed itself uses this number only to size contiguous buffers; how many checkpoints "
        "there are is decided by the training code",
        "Group the layers in the training code as the recommended segments say.");
  }
  if (block.partition_activations) {
    add("partition-needs-model-parallelism", Severity::note, "partition_activations",
        "DeepSpeed divides by the model-parallel size of the mpu object; without one it is 1, "
        "which "
        "saves nothing and copies every checkpoint once",
        "Pass mpu to deepspeed.checkpointing.configure(), or turn this off.");
  }
  for (const auto& [key, is_on] :
       {std::pair("synchronize_checkpoint_boundary", block.synchronize_checkpoint_boundary),
        std::pair("profile", block.profile)}) {
    if (!is_on) continue;
    add("costs-time", Severity::warning, key,
        "DeepSpeed synchronises the device around every checkpoint; it costs time and changes no "
        "memory",
        "Use it to look for a problem, not to train.");
  }
}

}  // namespace

Config parse_config(const std::string& path, const std::string& text) {
  return ConfigReader(path, text).read();
}

Config read_config(const std::string& path) { return parse_config(path, read_file(path)); }

}  // namespace tidemark
