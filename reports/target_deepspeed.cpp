// The user's ds_config.json with the recommended keys, and the groups that the training code makes.
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> deepspeed_objection(const Setting& setting) {
  return first_of(setting, needs_reentrant);
}

class DeepSpeedTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "deepspeed"; }
  [[nodiscard]] std::string_view description() const override {
    return "your ds_config.json with the block, and the groups that your code checkpoints";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), deepspeed_objection);
    const Setting& setting = chosen_setting(source).setting;
    const Config base =
        source.config() != nullptr ? *source.config() : parse_config("ds_config.json", "{\n}\n");
    const std::string text =
        is_checkpointed(setting)
            ? with_block(base, block_of(setting, base.activation_checkpointing))
            : base.text;
    out << with_segments(parse_config(base.path, text), setting.segments);
  }
};

}  // namespace

const Target& deepspeed_target() {
  static const DeepSpeedTarget target;
  return target;
}

}  // namespace tidemark
