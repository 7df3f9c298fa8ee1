"""How a training step gets into Tidemark, and how its recommendation gets back into the training.

    tidemark.export(model, kwargs=batch, path="model.pt2")     # then: tidemark sweep model.pt2 -o out
    tidemark.apply(model, "out")                               # the recommended setting, in force
    print(tidemark.check(model, step))                         # the promised peak against the real one
"""

import warnings

import torch

from ._apply import Applied, apply, applied_plan, remove
from ._check import Check, check
from ._export import Exported, ExportError, export
from ._plan import Plan, PlanError, load_plan

# The tool is built for this version, and apply() stands on PyTorch's own checkpointing of it.
SUPPORTED_TORCH = "2.11"
if not torch.__version__.startswith(SUPPORTED_TORCH + "."):
    warnings.warn(
        f"tidemark is made for torch {SUPPORTED_TORCH}, and this is torch {torch.__version__}: "
        f"predictions may differ; pip install torch=={SUPPORTED_TORCH}.0",
        stacklevel=2,
    )

__all__ = [
    "Applied",
    "Check",
    "ExportError",
    "Exported",
    "Plan",
    "PlanError",
    "apply",
    "applied_plan",
    "check",
    "export",
    "load_plan",
    "remove",
]
