// Megatron-LM's command line. Its recompute-num-layers under uniform is the layers of a segment.
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> needs_no_pools(const Setting& setting) {
  if (!setting.contiguous_memory_optimization) return std::nullopt;
  return "it has no contiguous buffers for checkpoints";
}

std::optional<std::string> megatron_lm_objection(const Setting& setting) {
  return first_of(setting, needs_uniform_groups, needs_no_rest, needs_reentrant,
                  needs_checkpoints_on_device, needs_no_pools);
}

class MegatronLmTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "megatron-lm"; }
  [[nodiscard]] std::string_view description() const override {
    return "flags of Megatron-LM (--recompute-granularity full --recompute-method uniform)";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), megatron_lm_objection);
    const Setting& setting = chosen_setting(source).setting;
    if (!is_checkpointed(setting)) return;  // the flags' absence is the setting
    out << "--recompute-granularity full --recompute-method uniform --recompute-num-layers "
        << *uniform_group(setting);
    // Not together with sequence parallelism, which has divided the checkpoints already.
    if (setting.partition_activations) out << " --distribute-saved-activations";
    out << '\n';
  }
};

}  // namespace

const Target& megatron_lm_target() {
  static const MegatronLmTarget target;
  return target;
}

}  // namespace tidemark
