"""The Hugging Face Trainer's callback: the plan in force while training, and the first step's peak
against the promised one.

    Trainer(..., callbacks=[tidemark.trainer.TidemarkCallback("out")])
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.utils import logging

from ._apply import Applied, apply
from ._check import Check, PeakMeter
from ._plan import PlanLike, load_plan

logger = logging.get_logger(__name__)


class TidemarkCallback(TrainerCallback):
    """Applies `plan` when training begins and takes it back at the end. `check` holds the first
    step's comparison."""

    def __init__(self, plan: PlanLike, row: int | None = None, tolerance: float = 0.01) -> None:
        self.plan = load_plan(plan, row)
        self.tolerance = tolerance
        self.check: Check | None = None
        self._applied: Applied | None = None
        self._meter: PeakMeter | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._applied = apply(kwargs["model"], self.plan)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.check is not None or self.plan.promise is None:
            return
        self._meter = PeakMeter(args.device)
        self._meter.start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._meter is None or self.plan.promise is None:
            return
        rise, self._meter = self._meter.stop(), None
        promise = self.plan.promise
        self.check = Check(promise.live_peak_bytes, promise.static_bytes + rise,
                           tuple(self.plan.notes), self.tolerance)
        (logger.info if self.check.ok else logger.warning)("tidemark: %s", self.check)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._applied is not None:
            self._applied.remove()
            self._applied = None
