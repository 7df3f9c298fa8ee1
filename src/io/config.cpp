// DeepSpeed's configuration file: what it says.
// Source: deepspeed/runtime/activation_checkpointing/config.py, runtime/config.py.
#include "tidemark/config.hpp"

#include <string>
#include <string_view>
#include <variant>

#include "tidemark/errors.hpp"
#include "tidemark/io.hpp"

namespace tidemark {

namespace {

void read_key(const HjsonMember& member, ActivationCheckpointing& block) {
  const auto is = [&](std::string_view key) { return member.key == key; };
  const bool flag = is_truthy(member.value);
  if (is("partition_activations")) block.partition_activations = flag;
  if (is("cpu_checkpointing")) block.cpu_checkpointing = flag;
  if (is("profile")) block.profile = flag;
  if (is("contiguous_memory_optimization")) block.contiguous_memory_optimization = flag;
  if (is("synchronize_checkpoint_boundary")) block.synchronize_checkpoint_boundary = flag;
  if (!is("number_checkpoints")) return;
  if (const auto* number = std::get_if<long long>(&member.value.value)) {
    block.number_checkpoints = *number;
  }
}

}  // namespace

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

const HjsonMember* find_block(const Config& config) {
  return find_member(config.root, "activation_checkpointing");
}

Config parse_config(const std::string& path, const std::string& text) {
  HjsonValue root = parse_hjson(path, text);
  auto* object = std::get_if<HjsonObject>(&root.value);
  if (object == nullptr) {
    throw InputError(path, "",
                     "is no DeepSpeed configuration: it holds no object; write its keys in { }");
  }
  Config config{
      .path = path, .text = text, .root = std::move(*object), .activation_checkpointing = {}};
  if (const HjsonMember* block = find_block(config)) {
    if (const auto* keys = std::get_if<HjsonObject>(&block->value.value)) {
      for (const HjsonMember& member : keys->members) {
        read_key(member, config.activation_checkpointing);
      }
    }
  }
  return config;
}

Config read_config(const std::string& path) { return parse_config(path, read_file(path)); }

}  // namespace tidemark
