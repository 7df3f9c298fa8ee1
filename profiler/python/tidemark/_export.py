"""Exporting a training step as Tidemark reads it: in training mode, with its loss, and with the
operators that eager runs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import io
import os
import re
import sys
from typing import Any, Callable, Iterator, Mapping, Sequence, Union
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils import _pytree as pytree

from ._apply import applied_plan, checkpoints_itself

# Above this the file is written without the parameters' values, which no prediction needs.
LARGE_BYTES = 256 * 1024 * 1024

Loss = Union[None, str, Callable[[Any], torch.Tensor]]


class ExportError(RuntimeError):
    """The step cannot be exported, or the export would not be the step that eager runs."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """The written file."""

    path: str
    weightless: bool
    parameter_bytes: int
    loss: float | None = None  # eager's, with verify=True
    notes: tuple[str, ...] = ()


def export(model: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
           loss: Loss = None, path: "str | os.PathLike[str]" = "model.pt2", verify: bool = False,
           weightless: bool | None = None, outputs: bool = False) -> Exported:
    """Writes the model's training step as a .pt2 whose first output is the loss.

    args, kwargs  what the training loop calls the model with
    loss          None: the output itself, its attribute or key `loss`, or its first element; a
                  name; or a function of the output
    verify        runs both once and compares loss and gradients, because some losses of
                  information are silent (a custom autograd.Function)
    weightless    leave the parameters' values out; None: where they are large
    outputs       keep the other outputs too, as a loop does that holds them during backward
    """
    args, kwargs = _arguments(args, kwargs)
    model = getattr(model, "_orig_mod", model)
    _refuse_checkpointing(model)
    notes: list[str] = []
    kwargs = _without_full_mask(model, kwargs, notes)
    size = sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())
    has_no_values = any(p.device.type == "meta" for p in model.parameters())
    if weightless is None:
        weightless = has_no_values or size > LARGE_BYTES
    if has_no_values and not weightless:
        raise ExportError("the model is on the meta device and has no values: leave out weightless=False")
    if verify and has_no_values:
        raise ExportError("verify=True runs the model, and on the meta device it has no values")
    eager_loss = None
    program = None
    if verify or not weightless:
        program, functions = _export(model, args, kwargs, loss, outputs)
    if verify:
        eager_loss = _compare(model, program, args, kwargs, loss, outputs)
    if weightless:
        hollow, hollow_args, hollow_kwargs = _without_values(model, args, kwargs)
        program, functions = _export(hollow, hollow_args, hollow_kwargs, loss, outputs)
        _join_tied(program, hollow)
    if functions and not verify:
        notes.append(
            f"the model uses {', '.join(sorted(functions))}, whose own backward is not in the file: "
            "verify=True tells whether it matters"
        )
    torch.export.save(program, os.fspath(path))
    return Exported(os.fspath(path), weightless, size, eager_loss, tuple(notes))


def _arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(args, torch.Tensor):
        args = (args,)
    if isinstance(args, (str, Mapping)) or not isinstance(args, Sequence):
        hint = "; a batch by name is kwargs=batch" if isinstance(args, Mapping) else ""
        raise TypeError(f"args is a tuple of what the model is called with, not a "
                        f"{type(args).__name__}{hint}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs maps names to values and is not a {type(kwargs).__name__}; the "
                        "file's name is path=")
    return tuple(args), dict(kwargs or {})


def _refuse_checkpointing(model: nn.Module) -> None:
    if applied_plan(model) is not None:
        raise ExportError("a plan is in force: call tidemark.remove(model) before exporting")
    if checkpoints_itself(model):
        raise ExportError(
            "the model's own checkpointing is on, which would stand in the file: call "
            "model.gradient_checkpointing_disable() before exporting"
        )


def _without_full_mask(model: nn.Module, kwargs: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Transformers leaves out a padding mask that masks nothing, by looking at its values, which an
    export cannot."""
    mask = kwargs.get("attention_mask")
    is_transformers = type(model).__module__.startswith("transformers.") or hasattr(model, "config")
    if not (is_transformers and isinstance(mask, torch.Tensor) and mask.device.type != "meta"):
        return kwargs
    if mask.ndim != 2 or not bool(mask.all()):
        return kwargs
    notes.append("attention_mask masks nothing and is left out, as Transformers does in eager")
    return {name: value for name, value in kwargs.items() if name != "attention_mask"}


@contextlib.contextmanager
def _training_step(model: nn.Module, loss: Loss, outputs: bool) -> Iterator[None]:
    """The model in training mode, without a cache, returning its loss first."""
    forward = model.forward
    had_own = "forward" in model.__dict__
    modes = {module: module.training for module in model.modules()}
    config = getattr(model, "config", None)
    uses_cache = getattr(config, "use_cache", None)

    @functools.wraps(forward)
    def step(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        value = _loss_of(result, loss)
        if not outputs or result is value:
            return value
        others = [leaf for leaf in pytree.tree_leaves(_as_plain(result))
                  if isinstance(leaf, torch.Tensor) and leaf is not value]
        return (value, *others)

    model.__dict__["forward"] = step
    try:
        model.train()
        if uses_cache:
            config.use_cache = False
        yield
    finally:
        if had_own:
            model.__dict__["forward"] = forward
        else:
            del model.__dict__["forward"]
        for module, mode in modes.items():
            module.training = mode
        if uses_cache:
            config.use_cache = uses_cache


def _as_plain(result: Any) -> Any:
    return dict(result) if isinstance(result, Mapping) else result


def _loss_of(result: Any, loss: Loss) -> torch.Tensor:
    if callable(loss):
        value = loss(result)
    elif loss is not None:
        value = result[loss] if isinstance(result, Mapping) else getattr(result, loss, None)
    elif isinstance(result, torch.Tensor):
        value = result
    elif isinstance(result, Mapping):
        value = result.get("loss")
    else:
        value = getattr(result, "loss", None)
        if value is None and isinstance(result, (tuple, list)) and result:
            value = result[0]
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        found = type(result).__name__ if value is None else f"{tuple(getattr(value, 'shape', ()))}"
        raise ExportError(
            f"the model gives no loss (found {found}): pass labels, or "
            "loss=lambda output: a tensor with one element"
        )
    return value


@contextlib.contextmanager
def _eager_graph(has_own_positions: bool) -> Iterator[None]:
    """While exporting, Transformers builds explicit attention masks, and with them repeated keys and
    values, where eager passes is_causal=True. This makes it decide as in eager: it is not told that
    it is exported, and positions that it makes itself are no packed sequences."""
    masks = sys.modules.get("transformers.masking_utils")
    replacements = {"is_torchdynamo_exporting": lambda: False}
    if not has_own_positions:
        replacements["find_packed_sequence_indices"] = lambda position_ids: None
    with contextlib.ExitStack() as stack:
        for name, replacement in replacements.items():
            if hasattr(masks, name):
                stack.enter_context(mock.patch.object(masks, name, replacement))
        yield


@contextlib.contextmanager
def _every_contiguous() -> Iterator[None]:
    """A contiguous() with nothing to do reaches no operator, and an export would not have it: on
    another device, whose operators lay out their results otherwise, eager does copy there."""
    def contiguous(tensor: torch.Tensor, memory_format: torch.memory_format = torch.contiguous_format
                   ) -> torch.Tensor:
        return torch.ops.aten.contiguous.default(tensor, memory_format=memory_format)

    with mock.patch.object(torch.Tensor, "contiguous", contiguous):
        yield


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Loss,
            outputs: bool) -> tuple[torch.export.ExportedProgram, set[str]]:
    """The program, and the custom autograd functions that ran on the way."""
    positions = "position_ids" in kwargs
    with _training_step(model, loss, outputs), _eager_graph(positions), _every_contiguous(), \
            _watched() as functions:
        printed = io.StringIO()
        try:
            # Where it fails, PyTorch prints the whole graph so far.
            with contextlib.redirect_stderr(printed):
                program = torch.export.export(model, args, kwargs)
            sys.stderr.write(printed.getvalue())
            return program, functions
        except ExportError:
            raise
        except Exception as error:
            cause = error
            while cause is not None and not isinstance(cause, ExportError):
                cause = cause.__cause__
            raise (cause or ExportError(_why(error, printed.getvalue()))) from error


@contextlib.contextmanager
def _watched() -> Iterator[set[str]]:
    """Refuses checkpoints in the model, and notes custom autograd functions: an export keeps the
    operators of their forward and forgets their backward."""
    from torch.utils import checkpoint

    functions: set[str] = set()
    original = torch.autograd.Function.apply.__func__

    def noted(cls: type, *args: Any, **kwargs: Any) -> Any:
        functions.add(f"{cls.__module__}.{cls.__qualname__}")
        return original(cls, *args, **kwargs)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ExportError(
            "the model calls torch.utils.checkpoint itself, which would stand in the file: turn its "
            "checkpointing off before exporting"
        )

    with contextlib.ExitStack() as stack:
        patch = lambda *what: stack.enter_context(mock.patch.object(*what))  # noqa: E731
        patch(torch.autograd.Function, "apply", classmethod(noted))
        patch(checkpoint, "_checkpoint_without_reentrant_generator", refuse)
        patch(checkpoint.CheckpointFunction, "apply", refuse)
        yield functions


def _without_values(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
                    ) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model with parameters and buffers that have a shape and no bytes."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        hollow = copy.deepcopy(model)

    def emptied(leaf: Any) -> Any:
        return mode.from_tensor(leaf) if isinstance(leaf, torch.Tensor) else leaf

    return hollow, pytree.tree_map(emptied, args), pytree.tree_map(emptied, kwargs)


def _join_tied(program: torch.export.ExportedProgram, model: nn.Module) -> None:
    """In a file with values, tied parameters share their bytes. Without values nothing would show it,
    so the parameter stands there once, under its first name."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    signature = program.graph_signature
    specs = {spec.target: spec for spec in signature.input_specs if spec.target is not None}
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for tied in names.values():
        found = [specs[name] for name in tied if name in specs]
        used = [spec for spec in found if nodes[spec.arg.name].users]
        if len(found) < 2 or len(used) > 1:
            continue
        kept = (used or found)[0]
        for spec in found:
            if spec is not kept:
                program.graph.erase_node(nodes[spec.arg.name])
                signature.input_specs.remove(spec)
        values = [program.state_dict.pop(spec.target) for spec in found]
        kept.target = tied[0]
        program.state_dict[kept.target] = values[0]
    program.graph_module.recompile()


def _compare(model: nn.Module, program: torch.export.ExportedProgram, args: tuple[Any, ...],
             kwargs: dict[str, Any], loss: Loss, outputs: bool) -> float:
    """Eager and the program with the same generator state: loss and every gradient must agree."""
    parameters = dict(model.named_parameters())
    kept = {name: p.grad for name, p in parameters.items()}
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}

    def run(step: Callable[..., Any]) -> tuple[float, dict[str, torch.Tensor | None]]:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for parameter in parameters.values():
            parameter.grad = None
        devices = [p.device for p in parameters.values() if p.device.type == "cuda"][:1]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            result = step(*args, **kwargs)
            value = result[0] if isinstance(result, tuple) else result
            if not value.requires_grad:
                raise ExportError(
                    "the program's loss needs no gradient, because the model ran in a no_grad region: "
                    "turn off its checkpointing, and torch.no_grad() around its forward"
                )
            value.backward()
        return float(value.detach()), {name: p.grad for name, p in parameters.items()}

    try:
        with _training_step(model, loss, outputs):
            eager_loss, eager = run(model)
        module = program.module()
        own = dict(module.named_parameters())
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.grad = None
        exported_loss, _ = run(module)
        exported = {name: own[name].grad if name in own else parameters[name].grad
                    for name in parameters}
        _judge(eager_loss, exported_loss, eager, exported)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for name, parameter in parameters.items():
            parameter.grad = kept[name]
    return eager_loss


def _judge(eager_loss: float, exported_loss: float, eager: Mapping[str, "torch.Tensor | None"],
           exported: Mapping[str, "torch.Tensor | None"]) -> None:
    if abs(eager_loss - exported_loss) > 1e-4 * max(1.0, abs(eager_loss)):
        raise ExportError(
            f"the exported program's loss is {exported_loss:.6g} and eager's {eager_loss:.6g}: the "
            "export is another computation"
        )
    for name, expected in eager.items():
        found = exported[name]
        if expected is None and found is None:
            continue
        if expected is None or found is None:
            who = "eager" if found is None else "the exported program"
            raise ExportError(f"only {who} gives {name} a gradient")
        scale = expected.abs().max().clamp_min(1e-12)
        error = float(((expected - found).abs().max() / scale).detach())
        if not error <= 1e-3:
            raise ExportError(
                f"the gradient of {name} differs from eager's by {error:.2g} of its largest element: "
                "a custom autograd.Function loses its backward in an export; write it with ordinary "
                "operators, or register it as an operator with torch.library"
            )


# What stops an export, by a part of PyTorch's message, and what to do.
_REASONS = (
    (("data-dependent", "GuardOnDataDependent", "_local_scalar_dense"),
     "the model decides by the values of a tensor, which an export cannot follow",
     "replace .item(), if tensor: and boolean indexing on this path; Transformers' mixtures of "
     "experts export with experts_implementation='batched_mm', its dropped layers with layerdrop=0"),
    (("Cache", "pytree", "not a registered"),
     "the model returns an object that an export cannot hold",
     "return tensors only (Transformers: use_cache=False)"),
    (("out of memory", "can't allocate memory"),
     "there is not enough memory to run the model",
     "pass weightless=True, or a model on the meta device"),
    (("Expected all tensors to be on the same device", "Unhandled FakeTensor Device"),
     "the inputs and the model are on different devices", "move the inputs to the model's device"),
    (("missing a required argument", "got an unexpected keyword", "required positional argument"),
     "the model is not called with these arguments", "give args and kwargs as your loop does"),
)


def _why(error: Exception, printed: str) -> str:
    text = f"{type(error).__name__}: {error}"
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    # Each operator of the graph follows its line in the user's source; the last one was under way.
    lines = re.findall(r"# File: (\S+:\d+) in \S+, code: (.*)", printed)
    place = f" (at {lines[-1][0]}: {lines[-1][1].strip()})" if lines else ""
    for needles, problem, remedy in _REASONS:
        if any(needle in text for needle in needles):
            return f"{problem}{place}: {remedy}. PyTorch says: {type(error).__name__}: {first}"
    return f"the step cannot be exported{place}. PyTorch says: {type(error).__name__}: {first}"
