// A Python file for plain PyTorch that wraps the checkpointed modules by name.
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> needs_single_blocks_or_package(const Setting& setting) {
  const auto reason = needs_single_blocks(setting);
  if (!reason) return std::nullopt;
  return *reason + " (tidemark.apply() in Python does)";
}

std::optional<std::string> torch_objection(const Setting& setting) {
  return first_of(setting, needs_single_blocks_or_package, needs_whole_checkpoints, needs_no_async);
}

class TorchTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "torch"; }
  [[nodiscard]] std::string_view description() const override {
    return "a Python file that wraps the blocks with PyTorch's checkpoint_wrapper";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), torch_objection);
    const Setting& setting = chosen_setting(source).setting;
    const bool is_offloaded = setting.cpu_checkpointing != CpuCheckpointing::off;
    out << "\"\"\"Activation checkpointing as Tidemark recommends it. Call apply(model) before "
           "fully_shard() and\ntorch.compile().\"\"\"\n\nimport functools\n\n"
           "from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (\n"
           "    CheckpointImpl,\n    apply_activation_checkpointing,\n    checkpoint_wrapper,\n";
    if (is_offloaded) out << "    offload_wrapper,\n";
    out << ")\n\nBLOCKS = [\n";
    for (const auto& segment : setting.segments) {
      for (const std::string& block : segment) out << "    \"" << block << "\",\n";
    }
    out << "]\n\n\ndef apply(model):\n    blocks = {model.get_submodule(name) for name in BLOCKS}\n"
           "    wrap = functools.partial(\n        checkpoint_wrapper, "
           "checkpoint_impl=CheckpointImpl."
        << (setting.method == Method::reentrant ? "REENTRANT" : "NO_REENTRANT") << "\n    )\n";
    if (is_offloaded) {
      out << "    wrapped = wrap\n    wrap = lambda block: offload_wrapper(wrapped(block))  # "
             "noqa: "
             "E731\n";
    }
    out << "    apply_activation_checkpointing(\n        model, checkpoint_wrapper_fn=wrap, "
           "check_fn=lambda module: module in blocks\n    )\n    return model\n";
  }
};

}  // namespace

const Target& torch_target() {
  static const TorchTarget target;
  return target;
}

}  // namespace tidemark
