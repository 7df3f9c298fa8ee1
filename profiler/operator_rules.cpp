#include "operator_rules.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace tidemark {

namespace {

// Batch norm updates its running values in training though most of its schemas do not say so; its
// backward in training takes them and does not look at them.
constexpr std::array<std::string_view, 7> batch_norms{"aten::native_batch_norm",
                                                      "aten::_native_batch_norm_legit",
                                                      "aten::cudnn_batch_norm",
                                                      "aten::miopen_batch_norm",
                                                      "aten::_batch_norm_with_update",
                                                      "aten::batch_norm_update_stats",
                                                      "aten::batch_norm_gather_stats_with_counts"};
constexpr std::array<std::string_view, 4> batch_norm_backwards{
    "aten::native_batch_norm_backward", "aten::batch_norm_backward",
    "aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward"};

// In place, without looking at what was there.
constexpr std::array<std::string_view, 13> overwriting{
    "aten::zero_",         "aten::fill_",      "aten::copy_",       "aten::normal_",
    "aten::uniform_",      "aten::bernoulli_", "aten::random_",     "aten::exponential_",
    "aten::geometric_",    "aten::cauchy_",    "aten::log_normal_", "aten::_foreach_zero_",
    "aten::_foreach_copy_"};

// Marked as writing in their schemas, though they only change what a tensor is called or knows.
constexpr std::array<std::string_view, 6> not_writing{"aten::requires_grad_", "aten::retain_grad",
                                                      "aten::set_data",       "aten::rename_",
                                                      "aten::detach_",        "aten::_fw_primal"};

constexpr std::array<std::string_view, 5> host_syncs{
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::allclose"};

template <typename Names>
bool holds(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// zeros_like(self), new_empty(self): only the shape and type of their first argument matter.
bool takes_shape_only(std::string_view name) {
  return name.ends_with("_like") || name.starts_with("aten::new_");
}

bool is_training(int flag, c10::ArrayRef<const c10::IValue> arguments) {
  if (flag < 0) return true;  // it has no such argument and always trains
  const c10::IValue& value = arguments[static_cast<std::size_t>(flag)];
  return value.isBool() && value.toBool();
}

int position_of(const c10::FunctionSchema& schema, const char* argument) {
  return schema.argumentIndexWithName(argument).value_or(-1);
}

}  // namespace

OperatorRules::OperatorRules(const c10::OperatorHandle& op) {
  const c10::FunctionSchema& schema = op.schema();
  const std::string& name = schema.name();
  const bool changes_metadata_only = op.hasTag(at::Tag::inplace_view) || holds(not_writing, name);
  for (const c10::Argument& argument : schema.arguments()) {
    const c10::AliasInfo* alias = argument.alias_info();
    const bool writes = alias != nullptr && alias->isWrite() && !changes_metadata_only;
    const bool overwrites = writes && (argument.is_out() || holds(overwriting, name));
    uses_.push_back({.reads = !overwrites, .writes = writes, .is_statistic = false});
  }
  if (takes_shape_only(name) && !uses_.empty()) uses_.front().reads = false;
  is_batch_norm_backward_ = holds(batch_norm_backwards, name);
  if (is_batch_norm_backward_ || holds(batch_norms, name)) {
    running_values_ = position_of(schema, "running_mean");
    for (const char* flag : {"training", "train", "update"}) {
      training_flag_ = std::max(training_flag_, position_of(schema, flag));
    }
  }
  may_be_random_ = op.hasTag(at::Tag::nondeterministic_seeded);
  is_host_sync_ = holds(host_syncs, name);
}

std::vector<ArgumentUse> OperatorRules::uses(c10::ArrayRef<const c10::IValue> arguments) const {
  std::vector<ArgumentUse> result = uses_;
  if (running_values_ < 0) return result;
  const bool trains = is_training(training_flag_, arguments);
  for (int i = running_values_; i < running_values_ + 2; ++i) {
    ArgumentUse& use = result[static_cast<std::size_t>(i)];
    if (is_batch_norm_backward_) {
      // In training they do not matter, but some kernels take their address all the same.
      use = {.reads = true, .writes = false, .is_statistic = false};
    } else {
      use = {.reads = true, .writes = trains, .is_statistic = trains};
    }
  }
  return result;
}

}  // namespace tidemark
