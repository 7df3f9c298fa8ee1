// Accelerate's configuration file with FSDP, whose checkpoints are the wrapped layers.
#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "target_setting.hpp"
#include "targets.hpp"
#include "tidemark/errors.hpp"

namespace tidemark {

namespace {

std::optional<std::string> accelerate_objection(const Setting& setting) {
  return first_of(setting, needs_single_blocks, needs_non_reentrant, needs_whole_checkpoints,
                  needs_no_async);
}

// Whether a checkpointed block draws random numbers; so it may where the step was not kept.
bool may_draw(const ReportSource& source, const Setting& setting) {
  if (source.trace() == nullptr) return true;
  const auto is_inside = [](const std::string& module, const std::string& block) {
    return module.starts_with(block) &&
           (module.size() == block.size() || module[block.size()] == '.');
  };
  const std::vector<Op>& ops = source.trace()->ops;
  return std::any_of(ops.begin(), ops.end(), [&](const Op& op) {
    if (op.phase != Phase::forward || !op.flags.random) return false;
    return std::any_of(setting.segments.begin(), setting.segments.end(), [&](const auto& segment) {
      return std::any_of(segment.begin(), segment.end(),
                         [&](const std::string& block) { return is_inside(op.module, block); });
    });
  });
}

class AccelerateTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "accelerate"; }
  [[nodiscard]] std::string_view description() const override {
    return "configuration of Accelerate with FSDP 2 (fsdp_activation_checkpointing)";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), accelerate_objection);
    const Setting& setting = chosen_setting(source).setting;
    if (is_checkpointed(setting) && may_draw(source, setting)) {
      out << "# Accelerate's FSDP 2 makes blocks again without restoring the generator's state\n"
             "# (preserve_rng_state=False): dropout in them drops other values than in the "
             "forward,\n"
             "# and the gradients are those of neither. Train without dropout.\n";
    }
    out << "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nfsdp_config:\n"
           "  fsdp_version: 2\n";
    out << "  fsdp_activation_checkpointing: " << (is_checkpointed(setting) ? "true" : "false")
        << '\n';
    if (!is_checkpointed(setting)) return;
    // Since Accelerate 1.15.
    if (setting.cpu_checkpointing != CpuCheckpointing::off) {
      out << "  fsdp_activation_checkpointing_offload: true\n";
    }
    const auto layer = block_class(source, setting);
    if (!layer) {
      throw UsageError(
          "accelerate names the checkpointed layers by their class, which only the "
          "recorded step tells; name the sweep's folder, made by sweep -o DIR");
    }
    out << "  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP\n  fsdp_transformer_layer_cls_to_wrap: "
        << *layer << '\n';
  }
};

}  // namespace

const Target& accelerate_target() {
  static const AccelerateTarget target;
  return target;
}

}  // namespace tidemark
