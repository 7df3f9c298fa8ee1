"""After one real step: is the peak what was promised, and if not, what differs?"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import torch
from torch import nn

from ._apply import applied_plan
from ._plan import PlanError


@dataclasses.dataclass(frozen=True)
class Check:
    """The promised and the measured peak of one step: live bytes, static memory included."""

    promised_bytes: int
    measured_bytes: int
    differences: tuple[str, ...] = ()
    tolerance: float = 0.01

    @property
    def error(self) -> float:
        """Measured above promised, as a fraction of the promised peak."""
        return (self.measured_bytes - self.promised_bytes) / self.promised_bytes

    @property
    def ok(self) -> bool:
        return abs(self.error) <= self.tolerance

    def __str__(self) -> str:
        words = [
            f"promised {_text(self.promised_bytes)}, measured {_text(self.measured_bytes)} "
            f"live ({self.error:+.2%}): {'as promised' if self.ok else 'NOT as promised'}"
        ]
        return "\n".join(words + [f"  {difference}" for difference in self.differences])


class PeakMeter:
    """Measures how far memory rises between start() and stop()."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profiler: Any = None
        self._before = 0

    def start(self) -> None:
        if self._device.type == "cuda":
            self._make_library_workspaces()
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = self._requested("current")
            return
        activities = [torch.profiler.ProfilerActivity.CPU]
        self._profiler = torch.profiler.profile(
            activities=activities, profile_memory=True, acc_events=True)
        self._profiler.__enter__()

    def _make_library_workspaces(self) -> None:
        """cuBLAS keeps a workspace for each thread and stream. Those of a plain step are static in a
        promise, so they are to be there; the one that only a recomputation makes, on autograd's
        thread, belongs to the step, so it is not."""
        torch._C._cuda_clearCublasWorkspaces()
        with torch.enable_grad():
            ones = torch.ones(8, 8, device=self._device)
            weight = torch.ones(8, 8, device=self._device, requires_grad=True)
            rows = torch.addmm(ones[0], ones, weight)
            (rows @ rows).sum().backward()

    def _requested(self, which: str) -> int:
        """What tensors asked for, as live bytes count. Blocks may be larger, those of what was there
        before the step too."""
        return torch.cuda.memory_stats(self._device)[f"requested_bytes.all.{which}"]

    def stop(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return self._requested("peak") - self._before
        self._profiler.__exit__(None, None, None)
        events = self._profiler.profiler.kineto_results.events()
        memory = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
        level = peak = 0
        for event in memory:
            level += event.nbytes()
            peak = max(peak, level)
        self._profiler = None
        return peak


def check(model: nn.Module, step: Callable[[], Any], tolerance: float = 0.01) -> Check:
    """Runs `step()` once (forward and backward of one batch, gradients none before it) and compares
    its peak with what the plan in force promised. On a CPU the profiler's memory events are counted,
    which is exact; on a GPU the bytes that its allocator was asked for."""
    applied = applied_plan(model)
    if applied is None:
        raise PlanError("no plan is in force: call tidemark.apply(model, plan) first")
    promise = applied.plan.promise
    if promise is None:
        raise PlanError(f"{applied.plan.title} promises no peak: apply a sweep's row")
    device = next((p.device for p in applied.model.parameters()), torch.device("cpu"))
    before = [(s.forward_count, s.recompute_count) for s in applied.segments]
    had_gradients = any(p.grad is not None for p in applied.model.parameters())
    meter = PeakMeter(device)
    meter.start()
    try:
        step()
    finally:
        rise = meter.stop()
    counts = [(s.forward_count - f, s.recompute_count - r)
              for s, (f, r) in zip(applied.segments, before)]
    result = Check(promise.live_peak_bytes, promise.static_bytes + rise, (), tolerance)
    differences = _differences(applied.plan.device, device, counts, had_gradients, applied)
    return dataclasses.replace(result, differences=tuple(differences))


def _differences(promised_on: "str | None", device: torch.device, counts: list[tuple[int, int]],
                 had_gradients: bool, applied: Any) -> list[str]:
    found = []
    kinds = {"cuda": ("cuda", "phantom"), "cpu": ("cpu",)}
    if promised_on is not None and promised_on not in kinds.get(device.type, (device.type,)):
        found.append(f"the step was recorded on {promised_on} and runs on {device.type}: kernels and "
                     "their scratch memory differ")
    never = [i for i, (forward, _) in enumerate(counts) if forward == 0]
    idle = [i for i, (forward, again) in enumerate(counts) if forward > 0 and again == 0]
    often = [i for i, (forward, _) in enumerate(counts) if forward > 1]
    paths = ["+".join(group) for group in applied.plan.segments]
    if never:
        found.append(f"{len(never)} of {len(counts)} checkpoints never ran ({paths[never[0]]}, ...)")
    if idle:
        found.append(f"{len(idle)} of {len(counts)} checkpoints were not recomputed "
                     f"({paths[idle[0]]}, ...): no backward, or torch.compile runs them")
    if often:
        found.append(f"{len(often)} of {len(counts)} checkpoints ran more than once in the step: "
                     "gradient accumulation, or shared modules")
    others = [i for i, segment in enumerate(applied.segments) if segment.difference is not None]
    if others:
        found.append(f"{len(others)} of {len(counts)} checkpoints run other operators than the "
                     f"recorded step ({paths[others[0]]}: {applied.segments[others[0]].difference})")
    if had_gradients:
        found.append("gradients existed before the step: use zero_grad(set_to_none=True), or record "
                     "with --accumulate-gradients")
    if torch.is_autocast_enabled(device.type):
        found.append("autocast is on: export the model inside the same autocast")
    found.extend(applied.plan.notes)
    return found


def _text(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:.3g} {unit}"
