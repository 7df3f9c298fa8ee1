// Torchtitan's TOML, as its releases up to 0.2.2 read it.
#include <ostream>

#include "target_setting.hpp"
#include "targets.hpp"

namespace tidemark {

namespace {

std::optional<std::string> torchtitan_objection(const Setting& setting) {
  return first_of(setting, needs_single_blocks, needs_non_reentrant, needs_whole_checkpoints,
                  needs_checkpoints_on_device);
}

class TorchtitanTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "torchtitan"; }
  [[nodiscard]] std::string_view description() const override {
    return "the activation_checkpoint section of torchtitan (up to 0.2.2)";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    refuse_if(source, name(), torchtitan_objection);
    const Setting& setting = chosen_setting(source).setting;
    out << "[activation_checkpoint]\nmode = \"" << (is_checkpointed(setting) ? "full" : "none")
        << "\"\n";
    // As PyTorch's default, and as the prediction is made.
    if (is_checkpointed(setting)) out << "early_stop = true\n";
  }
};

}  // namespace

const Target& torchtitan_target() {
  static const TorchtitanTarget target;
  return target;
}

}  // namespace tidemark
