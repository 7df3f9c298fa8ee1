// Arguments of Lightning's DeepSpeedStrategy. It passes no mpu and no number_checkpoints.
#include <nlohmann/json.hpp>
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> lightning_objection(const Setting& setting) {
  return first_of(setting, needs_reentrant, needs_whole_checkpoints);
}

class LightningTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "lightning"; }
  [[nodiscard]] std::string_view description() const override {
    return "arguments of Lightning's DeepSpeedStrategy, and the groups that training_step "
           "checkpoints";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), lightning_objection);
    const Setting& setting = chosen_setting(source).setting;
    nlohmann::ordered_json json;
    json["partition_activations"] = false;
    json["cpu_checkpointing"] = setting.cpu_checkpointing != CpuCheckpointing::off;
    json["contiguous_memory_optimization"] = false;
    json["synchronize_checkpoint_boundary"] = setting.synchronize_checkpoint_boundary;
    nlohmann::ordered_json document;
    document["DeepSpeedStrategy"] = json;
    // What deepspeed.checkpointing.checkpoint() is called for, each group once.
    document["tidemark_segments"] = setting.segments;
    out << document.dump(2) << '\n';
  }
};

}  // namespace

const Target& lightning_target() {
  static const LightningTarget target;
  return target;
}

}  // namespace tidemark
