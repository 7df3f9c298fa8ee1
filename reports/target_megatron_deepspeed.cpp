// Megatron-DeepSpeed's command line, which always overrides the configuration's block.
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> megatron_deepspeed_objection(const Setting& setting) {
  return first_of(setting, needs_uniform_groups, needs_no_rest, needs_reentrant);
}

class MegatronDeepSpeedTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "megatron-deepspeed"; }
  [[nodiscard]] std::string_view description() const override {
    return "flags of Megatron-DeepSpeed, which override the ds_config.json";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), megatron_deepspeed_objection);
    const Setting& setting = chosen_setting(source).setting;
    if (!is_checkpointed(setting)) return;  // the flags' absence is the setting
    out << "--deepspeed-activation-checkpointing --checkpoint-activations --checkpoint-num-layers "
        << *uniform_group(setting);
    if (setting.partition_activations) out << " --partition-activations";
    if (setting.cpu_checkpointing != CpuCheckpointing::off) out << " --checkpoint-in-cpu";
    if (setting.contiguous_memory_optimization)
      out << " --contigious-checkpointing";  // its spelling
    if (setting.synchronize_checkpoint_boundary) out << " --synchronize-each-layer";
    if (setting.profile) out << " --profile-backward";
    out << '\n';
  }
};

}  // namespace

const Target& megatron_deepspeed_target() {
  static const MegatronDeepSpeedTarget target;
  return target;
}

}  // namespace tidemark
