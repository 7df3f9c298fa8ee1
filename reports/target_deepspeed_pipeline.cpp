// DeepSpeed's PipelineModule, which makes the segments itself.
#include <nlohmann/json.hpp>
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> needs_modelled_form(const Setting& setting) {
  if (!is_checkpointed(setting) || setting.method == Method::reentrant) return std::nullopt;
  return "its non-reentrant form lets go of values earlier than PyTorch's, which is predicted here "
         "(sweep with --method reentrant)";
}

std::optional<std::string> deepspeed_pipeline_objection(const Setting& setting) {
  return first_of(setting, needs_uniform_groups, needs_modelled_form);
}

class DeepSpeedPipelineTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "deepspeed-pipeline"; }
  [[nodiscard]] std::string_view description() const override {
    return "the pipeline section of a ds_config.json (activation_checkpoint_interval)";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), deepspeed_pipeline_objection);
    const Setting& setting = chosen_setting(source).setting;
    nlohmann::ordered_json json;
    json["pipeline"]["activation_checkpoint_interval"] =
        is_checkpointed(setting) ? *uniform_group(setting) : 0;
    json["pipeline"]["use_reentrant"] = true;
    ActivationCheckpointing block = block_of(setting, {});
    json["activation_checkpointing"] = {
        {"partition_activations", block.partition_activations},
        {"cpu_checkpointing", block.cpu_checkpointing},
        {"contiguous_memory_optimization", block.contiguous_memory_optimization}};
    if (block.contiguous_memory_optimization) {
      json["activation_checkpointing"]["number_checkpoints"] = *block.number_checkpoints;
    }
    // The interval counts every function of a stage, so that what stands before the blocks shifts
    // the groups. Without this argument of PipelineModule a group that starts with the embedding is
    // checkpointed with it; with it, such a group is not checkpointed at all.
    if (const auto layer = block_class(source, setting)) {
      json["tidemark_checkpointable_layers"] = {*layer};
    }
    out << json.dump(2) << '\n';
  }
};

}  // namespace

const Target& deepspeed_pipeline_target() {
  static const DeepSpeedPipelineTarget target;
  return target;
}

}  // namespace tidemark
