"""One group of modules under one non-reentrant checkpoint, without changing the model's structure.

The modules stay where they are and the model's own code calls them one after the other. While a
module of the group runs, what autograd would save is replaced by placeholders; when backward asks
for the first of them, the calls are replayed in order: the first with the arguments that it had,
each further one with what its predecessor gave. Only arguments that do not come from inside the
group are kept: the checkpoint. Code between the modules is not part of it and runs once.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any, Callable, Iterator

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils import checkpoint as torch_checkpoint

from ._host import HostCopy, HostPool, worth_moving


class _Link:
    """Stands for the nth tensor of an earlier call's result."""

    __slots__ = ("call", "leaf")

    def __init__(self, call: int, leaf: int) -> None:
        self.call, self.leaf = call, leaf


class _RandomState:
    """The generators' states and autocast, as the first forward found them."""

    def __init__(self, device: torch.device) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.device = device
        self.autocast, self.cpu_autocast = torch_checkpoint._get_autocast_kwargs(device.type)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        devices = [self.device] if self.cuda is not None else []
        with torch.random.fork_rng(devices=devices), contextlib.ExitStack() as stack:
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            if self.autocast is not None and self.device.type != "cpu":
                stack.enter_context(torch.autocast(self.device.type, **self.autocast))
            stack.enter_context(torch.autocast("cpu", **self.cpu_autocast))
            yield


class _Call:
    """Arguments of one module's call: links to earlier results, the rest kept."""

    def __init__(self, module: int, leaves: list[Any], spec: Any) -> None:
        self.module, self.leaves, self.spec = module, leaves, spec


class Segment:
    """A group of modules; `forwards` are their original forward functions."""

    def __init__(self, modules: list[nn.Module], forwards: list[Callable[..., Any]],
                 pool: HostPool | None) -> None:
        self.modules, self.forwards, self.pool = modules, forwards, pool
        self.forward_count = self.recompute_count = 0
        self.difference: str | None = None  # of its operators from the recorded ones
        self._run: _Run | None = None
        self._begun = False

    def note_begin(self) -> None:
        """A group of one module is about to run, under a checkpoint that calls note_run()."""
        if not torch.compiler.is_compiling():
            self._begun = True

    def note_run(self) -> None:
        """It runs: for the first time, or again."""
        if torch.compiler.is_compiling():
            return
        if self._begun:
            self.forward_count += 1
            self._begun = False
        else:
            self.recompute_count += 1

    # Compiled, the forward would save other tensors than its recomputation, which PyTorch runs
    # without the compiler.
    @torch.compiler.disable
    def call(self, position: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not torch.is_grad_enabled():
            self._run = None
            return self.forwards[position](*args, **kwargs)
        run = self._run
        if position == 0 or run is None or run.next_position != position:
            run = self._run = _Run(self, position, args, kwargs)
            self.forward_count += 1
        return run.forward(position, args, kwargs, last=position + 1 == len(self.modules))

    def forget(self) -> None:
        """Drops what an interrupted forward left behind."""
        self._run = None


class _Run:
    """One pass of the step through a segment."""

    def __init__(self, segment: Segment, position: int, args: tuple[Any, ...],
                 kwargs: dict[str, Any]) -> None:
        self.segment = segment
        self.next_position = position
        self.calls: list[_Call] = []
        self.links: dict[int, _Link] = {}  # by id of a result that is still alive
        self.previous: list[Any] = []  # keeps those results alive until the next module has run
        self.state = _RandomState(_device_of(args, kwargs))
        frame = torch_checkpoint._CheckpointFrame(
            self.replay, True, None, torch_checkpoint._default_meta_extractor
        )
        self.frame: Any = frame
        # The hooks ask the frame for the arguments of its function through autograd; here they are
        # kept by the calls themselves.
        frame.input_saver = types.SimpleNamespace(
            grad_fn=types.SimpleNamespace(saved_tensors=(), get_args=lambda saved: ())
        )

    def forward(self, position: int, args: tuple[Any, ...], kwargs: dict[str, Any],
                last: bool) -> Any:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        kept = [self.links.get(id(leaf), leaf) for leaf in leaves]
        call = _Call(position, kept, spec)
        self.calls.append(call)
        with torch_checkpoint._checkpoint_hook(self.frame):
            result = self.segment.forwards[position](*args, **kwargs)
        self._offload(call)
        self.next_position = position + 1
        self.previous, self.links = [], {}
        if last:
            self.frame.forward_completed = True
            # The frame refers to this run; a cycle would keep the checkpoint alive until Python's
            # collector came by.
            self.frame = None
            self.segment._run = None
        else:
            number = len(self.calls) - 1
            self.previous = pytree.tree_leaves(result)
            self.links = {id(leaf): _Link(number, i) for i, leaf in enumerate(self.previous)
                          if isinstance(leaf, torch.Tensor)}
        return result

    def _offload(self, call: _Call) -> None:
        pool = self.segment.pool
        if pool is None:
            return
        call.leaves = [HostCopy(leaf, pool) if worth_moving(leaf) else leaf
                       for leaf in call.leaves]

    def replay(self) -> None:
        self.segment.recompute_count += 1
        results: list[list[Any]] = []
        fetched: dict[int, torch.Tensor] = {}
        with self.state.restored():
            for call in self.calls:
                leaves = [self._value(leaf, results, fetched) for leaf in call.leaves]
                args, kwargs = pytree.tree_unflatten(leaves, call.spec)
                module = self.segment.modules[call.module]
                if is_sharded(module):
                    # Its own hooks gather its parameters only when its backward begins, and the
                    # group's backward begins with its last module's.
                    module.unshard()
                result = self.segment.forwards[call.module](*args, **kwargs)
                del args, kwargs, leaves
                results.append(pytree.tree_leaves(result))
                for earlier in results[:-1]:
                    earlier.clear()

    @staticmethod
    def _value(leaf: Any, results: list[list[Any]], fetched: dict[int, torch.Tensor]) -> Any:
        if isinstance(leaf, _Link):
            return results[leaf.call][leaf.leaf]
        if isinstance(leaf, HostCopy):
            if id(leaf) not in fetched:
                fetched[id(leaf)] = leaf.fetch()
            return fetched[id(leaf)]
        # Autograd must not run on from the recomputed part into what was there before.
        return leaf.detach().requires_grad_(leaf.requires_grad) if _is_activation(leaf) else leaf


def is_sharded(module: nn.Module) -> bool:
    """By fully_shard()."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)


def _is_activation(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and not isinstance(leaf, nn.Parameter)


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor):
            return leaf.device
    return torch.device("cpu")
