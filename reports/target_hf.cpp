// Fields of Hugging Face's TrainingArguments.
#include <nlohmann/json.hpp>
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> hf_objection(const Setting& setting) {
  return first_of(setting, needs_single_blocks, needs_whole_checkpoints, needs_no_async);
}

class HfTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "hf"; }
  [[nodiscard]] std::string_view description() const override {
    return "TrainingArguments fields of Hugging Face (gradient_checkpointing, one layer a "
           "checkpoint)";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), hf_objection);
    const Setting& setting = chosen_setting(source).setting;
    nlohmann::ordered_json json;
    json["gradient_checkpointing"] = is_checkpointed(setting);
    if (is_checkpointed(setting)) {
      auto& kwargs = json["gradient_checkpointing_kwargs"];
      kwargs["use_reentrant"] = setting.method == Method::reentrant;
      // Since Transformers 5.17.
      if (setting.cpu_checkpointing != CpuCheckpointing::off) kwargs["offload"] = true;
    }
    out << json.dump(2) << '\n';
  }
};

}  // namespace

const Target& hf_target() {
  static const HfTarget target;
  return target;
}

}  // namespace tidemark
