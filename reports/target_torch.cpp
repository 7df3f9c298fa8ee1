// A Python file for plain PyTorch that wraps the checkpointed modules by name.
#include <ostream>
#include <string>
#include <vector>

#include "target_setting.hpp"
#include "targets.hpp"
#include "tidemark/module_forms.hpp"

namespace tidemark {

namespace {

std::optional<std::string> needs_single_blocks_or_package(const Setting& setting) {
  const auto reason = needs_single_blocks(setting);
  if (!reason) return std::nullopt;
  return *reason + " (tidemark.apply() in Python does)";
}

std::optional<std::string> torch_objection(const Setting& setting) {
  return first_of(setting, needs_single_blocks_or_package, needs_whole_checkpoints, needs_no_async);
}

void write_setting(const Setting& setting, std::ostream& out) {
  const bool is_offloaded = setting.cpu_checkpointing != CpuCheckpointing::off;
  out << "\"\"\"Activation checkpointing as Tidemark recommends it. Call apply(model) before "
         "fully_shard() and\ntorch.compile().\"\"\"\n\nimport functools\n\n"
         "from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (\n"
         "    CheckpointImpl,\n    apply_activation_checkpointing,\n    checkpoint_wrapper,\n";
  if (is_offloaded) out << "    offload_wrapper,\n";
  out << ")\n\nBLOCKS = [\n";
  for (const auto& segment : setting.segments) {
    for (const std::string& block : segment) out << "    \"" << block << "\",\n";
  }
  out << "]\n\n\ndef apply(model):\n    blocks = {model.get_submodule(name) for name in BLOCKS}\n"
         "    wrap = functools.partial(\n        checkpoint_wrapper, "
         "checkpoint_impl=CheckpointImpl."
      << (setting.method == Method::reentrant ? "REENTRANT" : "NO_REENTRANT") << "\n    )\n";
  if (is_offloaded) {
    out << "    wrapped = wrap\n    wrap = lambda block: offload_wrapper(wrapped(block))  # "
           "noqa: "
           "E731\n";
  }
  out << "    apply_activation_checkpointing(\n        model, checkpoint_wrapper_fn=wrap, "
         "check_fn=lambda module: module in blocks\n    )\n    return model\n";
}

constexpr const char* selective_head =
    R"("""Selective activation checkpointing as Tidemark planned it. Call apply(model) before fully_shard()
and torch.compile()."""

import collections
import functools

from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

# By groups of blocks: the calls of each operator whose results are kept, counted from 0 in the
# block's forward.
KEPT = [
)";

constexpr const char* selective_functions = R"(]


def name_of(operator):
    # PyTorch's attention adds in place or not, depending on who watches: one operator.
    name, dot, overload = operator.name().partition(".")
    return name.removesuffix("_") + dot + overload


def contexts(kept):
    calls = {False: collections.Counter(), True: collections.Counter()}

    def policy(context, operator, *args, **kwargs):
        counter, name = calls[context.is_recompute], name_of(operator)
        counter[name] += 1
        keeps = counter[name] - 1 in kept.get(name, ())
        return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def apply(model):
    kept = {model.get_submodule(name): calls for names, calls in KEPT for name in names}

    def wrap(block):
        return checkpoint_wrapper(block, context_fn=functools.partial(contexts, kept[block]))

    apply_activation_checkpointing(
        model, checkpoint_wrapper_fn=wrap, check_fn=lambda module: module in kept
    )
    return model
)";

void write_calls(const std::vector<OperatorCalls>& operators, std::ostream& out) {
  out << "        {\n";
  for (const OperatorCalls& calls : operators) {
    out << "            \"" << calls.name << (calls.overload.empty() ? "" : ".") << calls.overload
        << "\": [";
    for (std::size_t i = 0; i < calls.kept.size(); ++i)
      out << (i == 0 ? "" : ", ") << calls.kept[i];
    out << "],\n";
  }
  out << "        },\n";
}

// Blocks whose kept calls are alike share one entry.
void write_selective(const SelectiveForm& form, std::ostream& out) {
  out << selective_head;
  std::vector<char> is_written(form.segments.size(), 0);
  for (std::size_t s = 0; s < form.segments.size(); ++s) {
    if (is_written[s] != 0) continue;
    out << "    (\n        [\n";
    for (std::size_t other = s; other < form.segments.size(); ++other) {
      if (form.operators[other] != form.operators[s]) continue;
      is_written[other] = 1;
      for (const std::string& block : form.segments[other]) {
        out << "            \"" << block << "\",\n";
      }
    }
    out << "        ],\n";
    write_calls(form.operators[s], out);
    out << "    ),\n";
  }
  out << selective_functions;
}

class TorchTarget final : public Target {
 public:
  [[nodiscard]] std::string_view name() const override { return "torch"; }
  [[nodiscard]] std::string_view description() const override {
    return "a Python file that wraps the blocks with PyTorch's checkpoint_wrapper";
  }
  void write(const ReportSource& source, std::ostream& out) const override {
    if (const SelectiveForm* form = chosen_selective(source)) {
      write_selective(*form, out);
      return;
    }
    refuse_if(source, name(), torch_objection);
    write_setting(chosen_setting(source).setting, out);
  }
};

}  // namespace

const Target& torch_target() {
  static const TorchTarget target;
  return target;
}

}  // namespace tidemark
