// What an operator does to the bytes of its arguments. Mostly the schema says so; where it does
// not (batch norm's running values, arguments that serve for their shape alone), a table does.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <vector>

namespace tidemark {

struct ArgumentUse {
  bool reads = true;
  bool writes = false;
  // Written, but not feeding the operator's own output: batch norm's running values in training.
  bool is_statistic = false;
};

class OperatorRules {
 public:
  explicit OperatorRules(const c10::OperatorHandle& op);

  // By argument of the schema, for a call with these values.
  [[nodiscard]] std::vector<ArgumentUse> uses(c10::ArrayRef<const c10::IValue> arguments) const;
  // May draw from a generator.
  [[nodiscard]] bool may_be_random() const { return may_be_random_; }
  // Gives a value to the host that depends on the bytes: no tensor comes of it, yet it counts.
  [[nodiscard]] bool is_host_sync() const { return is_host_sync_; }

 private:
  std::vector<ArgumentUse> uses_;
  // Batch norm: the positions of its running mean, which its running variance follows, and of its
  // training flag. -1: no such argument.
  int running_values_ = -1;
  int training_flag_ = -1;
  bool is_batch_norm_backward_ = false;
  bool may_be_random_ = false;
  bool is_host_sync_ = false;
};

}  // namespace tidemark
