"""Selective checkpoints: of each operator, the calls whose results are kept instead of made again."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Mapping

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts


@dataclasses.dataclass(frozen=True)
class Calls:
    """The calls of one operator in a module's forward, counted from 0."""

    kept: frozenset[int]
    count: int


KeptCalls = Mapping[str, Calls]  # by the operator's name: "aten::add.Tensor"


def contexts(kept: KeptCalls, seen: "collections.Counter[str]") -> Any:
    """A new pair of contexts for one checkpoint. `seen` counts the forward's calls, so that a module
    which runs other operators than the recorded one is found out."""
    again: collections.Counter[str] = collections.Counter()
    seen.clear()

    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        counter, name = again if context.is_recompute else seen, _name(operator)
        call = counter[name]
        counter[name] += 1
        calls = kept.get(name)
        keeps = calls is not None and call in calls.kept
        return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def _name(operator: Any) -> str:
    """Without what tells the in-place form apart: PyTorch's attention adds its mask in place or not,
    depending on whether anybody watches."""
    name, dot, overload = operator.name().partition(".")
    return name.removesuffix("_") + dot + overload


def difference(kept: KeptCalls, seen: Mapping[str, int]) -> str | None:
    """What the forward ran otherwise than the recorded step; None: nothing that matters."""
    for name, calls in kept.items():
        if seen.get(name, 0) != calls.count:
            return f"{name} ran {seen.get(name, 0)} times and {calls.count} times when recorded"
    return None
