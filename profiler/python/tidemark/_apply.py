"""Putting a plan into force on a live model, and taking it back."""

from __future__ import annotations

import collections
import functools
import re
import warnings
from typing import Any, Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from ._host import HostPool
from ._plan import Plan, PlanError, PlanLike, load_plan
from ._segment import Segment, is_sharded
from ._selective import KeptCalls, contexts, difference

_ATTRIBUTE = "_tidemark_applied"


class Applied:
    """A plan in force on a model. As a context manager it takes the plan back at the end."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self.segments: list[Segment] = []
        self._undo: list[Callable[[], None]] = []

    def remove(self) -> None:
        """The model as it was before. Does nothing the second time."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if self.model.__dict__.get(_ATTRIBUTE) is self:
            del self.model.__dict__[_ATTRIBUTE]

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<{self.plan.title}: {len(self.segments)} checkpoints in force>"


def apply(model: nn.Module, plan: PlanLike, row: int | None = None,
          checkpoint: Callable[..., Any] | None = None) -> Applied:
    """Puts `plan` into force: each group of modules is recomputed in backward, and only its inputs
    are kept. Applying again replaces the earlier plan; `.remove()` takes it back. The model's
    structure, parameter names and code stay as they are.

    plan        a sweep's folder or sweep.json (its recommendation, or `row`), a row of it, a
                plan.json, a list of groups of module paths, or a Plan
    checkpoint  another checkpoint function for groups of one module, called as
                checkpoint(function, *args): deepspeed.checkpointing.checkpoint

    Apply before fully_shard() and before torch.compile(), as with PyTorch's own wrappers. A compiled
    model compiles groups of one module with their checkpoint; larger groups, and groups that are
    offloaded, run as they do without torch.compile.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    plan = load_plan(plan, row)
    remove(model)
    _refuse_sharded(model)
    groups = [[_module(model, path) for path in group] for group in plan.segments]
    _refuse_overlaps(plan)
    numbers = _distinct_groups(plan, groups)
    if checkpoint is not None and any(len(group) > 1 for group in groups):
        raise PlanError(
            "another checkpoint function takes one module a checkpoint, and this plan groups "
            "several; sweep with --number-checkpoints set to the number of blocks, or call apply() "
            "without it"
        )
    if checkpoint is not None and plan.kept:
        raise PlanError("another checkpoint function keeps no single operators' results")
    applied = Applied(model, plan)
    for note in plan.notes:
        warnings.warn(f"tidemark: {note}", stacklevel=2)
    if groups:
        _turn_off_own(model, applied)
    pool = _pool_for(model, plan)
    for number in numbers:
        kept = plan.kept[number] if plan.kept else None
        _install(groups[number], pool, checkpoint, kept, applied)
    model.__dict__[_ATTRIBUTE] = applied
    return applied


def applied_plan(model: nn.Module) -> Applied | None:
    """What apply() put into force, or None."""
    return getattr(model, "_orig_mod", model).__dict__.get(_ATTRIBUTE)


def remove(model: nn.Module) -> None:
    """Takes back what apply() did to the model, if anything."""
    applied = applied_plan(model)
    if applied is not None:
        applied.remove()


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        pass
    # The plan's model may be this one inside a wrapper, or the other way round.
    matches = [name for name, _ in model.named_modules()
               if name.endswith("." + path) or path.endswith("." + name) and name]
    if len(matches) == 1:
        return model.get_submodule(matches[0])
    if re.fullmatch(r"ops \d+-\d+", path):
        raise PlanError(
            f"'{path}' is a stretch of the recorded step and no module: sweep with --blocks "
            "'layers.*', or whatever the blocks' paths are, for checkpoints around modules"
        )
    raise PlanError(
        f"the model has no module '{path}': the plan is for another model"
        + (f" ({', '.join(matches[:3])} are alike)" if matches else "")
    )


def _refuse_sharded(model: nn.Module) -> None:
    for name, module in model.named_modules():
        is_wrapped = any(base.__name__ == "FullyShardedDataParallel" for base in type(module).__mro__)
        if is_wrapped or is_sharded(module):
            raise PlanError(
                f"'{name or 'the model'}' is sharded already: call tidemark.apply() before "
                "fully_shard(), so that recomputation happens inside the shard's hooks"
            )


def _refuse_overlaps(plan: Plan) -> None:
    paths = [path for group in plan.segments for path in group]
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise PlanError(f"the plan names '{sorted(twice)[0]}' in two groups")


def _distinct_groups(plan: Plan, groups: list[list[nn.Module]]) -> list[int]:
    """The groups to put into force, by position. A module that stands for several blocks has one
    forward, which makes each of its calls a checkpoint."""
    paths: dict[int, list[str]] = {}
    for group, names in zip(groups, plan.segments):
        for module, name in zip(group, names):
            paths.setdefault(id(module), []).append(name)
    seen: set[int] = set()
    numbers = []
    for number, group in enumerate(groups):
        shared = next((m for m in group if len(paths[id(m)]) > 1), None)
        if shared is not None and (len(group) > 1 or plan.kept):
            raise PlanError(
                f"{', '.join(repr(name) for name in paths[id(shared)][:3])} are one module, whose "
                "calls cannot be told apart: take a row with as many checkpoints as blocks"
            )
        if shared is None or id(shared) not in seen:
            numbers.append(number)
        seen.update(map(id, group))
    return numbers


def checkpoints_itself(model: nn.Module) -> bool:
    """Whether a Transformers model's own checkpointing is on."""
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):
        if hasattr(type(model), name):
            return bool(getattr(model, name))
    return False


def _turn_off_own(model: nn.Module, applied: Applied) -> None:
    """A model's own checkpointing would recompute a second time, and its cache would be filled
    twice."""
    if checkpoints_itself(model):
        raise PlanError(
            "the model's own checkpointing is on: call model.gradient_checkpointing_disable() "
            "(TrainingArguments: gradient_checkpointing=False) first"
        )
    config = getattr(model, "config", None)
    if getattr(config, "use_cache", None):
        config.use_cache = False
        applied._undo.append(lambda: setattr(config, "use_cache", True))


def _pool_for(model: nn.Module, plan: Plan) -> HostPool | None:
    if not plan.offload:
        return None
    devices = {parameter.device.type for parameter in model.parameters()}
    if "cuda" in devices:
        return HostPool()
    warnings.warn(
        "tidemark: the plan keeps checkpoints on the host, and the model is not on a GPU: they "
        "stay where they are", stacklevel=3)
    return None


def _install(group: list[nn.Module], pool: HostPool | None,
             checkpoint: Callable[..., Any] | None, kept: KeptCalls | None,
             applied: Applied) -> None:
    forwards = [module.forward for module in group]
    segment = Segment(group, forwards, pool)
    applied.segments.append(segment)
    for position, (module, forward) in enumerate(zip(group, forwards)):
        if len(group) == 1 and pool is None:
            replacement = _one_module(segment, forward, checkpoint, kept)
        else:
            replacement = _grouped(segment, position, forward)
        had_own = "forward" in module.__dict__
        module.__dict__["forward"] = replacement
        applied._undo.append(functools.partial(_restore, module, forward if had_own else None))


def _restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = forward


def _one_module(segment: Segment, forward: Callable[..., Any],
                checkpoint: Callable[..., Any] | None,
                kept: KeptCalls | None) -> Callable[..., Any]:
    """PyTorch's own function, which torch.compile sees through."""
    seen: collections.Counter[str] = collections.Counter()
    selective = {}
    if kept is not None:
        selective["context_fn"] = functools.partial(contexts, kept, seen)

    def counted(*args: Any, **kwargs: Any) -> Any:
        segment.note_run()
        return forward(*args, **kwargs)

    @functools.wraps(forward)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        segment.note_begin()
        if checkpoint is not None:
            return checkpoint(functools.partial(counted, **kwargs), *args)
        result = torch_checkpoint(counted, *args, use_reentrant=False, **selective, **kwargs)
        if kept is not None and not torch.compiler.is_compiling():
            segment.difference = difference(kept, seen)
        return result

    return checkpointed


def _grouped(segment: Segment, position: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return segment.call(position, args, kwargs)

    return checkpointed
