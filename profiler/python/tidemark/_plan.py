"""What a sweep, a row of it or a plan asks a model to do: groups of modules that are recomputed
together, and where their inputs lie meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any, Mapping, Sequence, Union

from ._selective import Calls, KeptCalls


class PlanError(ValueError):
    """A plan that cannot be read, or that this package cannot put into force."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """The predicted peak of the step, and the part of it that exists before the step."""

    live_peak_bytes: int
    static_bytes: int
    allocated_peak_bytes: int | None = None
    reserved_peak_bytes: int | None = None

    @property
    def rise_bytes(self) -> int:
        """How far the step rises above what was there before it."""
        return self.live_peak_bytes - self.static_bytes


@dataclasses.dataclass(frozen=True)
class Plan:
    """Groups of modules, by their path in the model. Each group is recomputed together, but for the
    operator calls that are kept."""

    segments: tuple[tuple[str, ...], ...] = ()
    kept: tuple[KeptCalls, ...] = ()  # by segment; empty: everything is recomputed
    offload: bool = False
    promise: Promise | None = None
    device: str | None = None  # the kind of device that the promise is for: "cpu", "cuda", "phantom"
    title: str = "plan"
    notes: tuple[str, ...] = ()


PlanLike = Union[Plan, str, "os.PathLike[str]", Mapping[str, Any], Sequence[Sequence[str]]]


def load_plan(source: PlanLike, row: int | None = None) -> Plan:
    """A plan from a sweep's folder or sweep.json (its recommended row, or `row`), a row of it as a
    dictionary, a plan.json (what stands for it, or `row` of its module forms), or a list of groups of
    module paths."""
    if isinstance(source, Plan):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _read(pathlib.Path(source), row)
    if isinstance(source, Mapping):
        return _from_row(source, None, "row")
    segments = tuple(tuple(group) for group in source)
    if any(isinstance(group, str) for group in source):
        raise PlanError("a plan is a list of groups: write [['layers.0', 'layers.1'], ['layers.2']]")
    return Plan(segments=segments, title=f"{len(segments)} checkpoints")


def _read(path: pathlib.Path, row: int | None) -> Plan:
    if path.is_dir():
        path = path / "sweep.json"
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{path}: is no JSON: {error}") from None
    if isinstance(document, dict) and document.get("format") == "tidemark.plan":
        return _from_plan_file(path, document, row)
    if not isinstance(document, dict) or "rows" not in document:
        raise PlanError(
            f"{path}: holds no sweep and no plan; name a sweep's folder, its sweep.json or a plan.json"
        )
    rows = document["rows"]
    if row is None:
        written = (document.get("recommended") or {}).get("written")
        if written is None:
            raise PlanError(f"{path}: recommends nothing: no setting fits the budget; name a row")
        row = int(written["row"])
    if 0 <= row < len(rows) and rows[row].get("planner"):
        return _read(path.with_name("plan.json"), None)
    return _row_of(path, rows, row, document)


def _row_of(path: pathlib.Path, rows: Sequence[Mapping[str, Any]], row: int,
            document: Mapping[str, Any]) -> Plan:
    if not 0 <= row < len(rows):
        raise PlanError(f"{path}: has no row {row}; its rows are 0 to {len(rows) - 1}")
    return _from_row(rows[row], document, f"row {row} of {path}")


def _from_plan_file(path: pathlib.Path, document: Mapping[str, Any], row: int | None) -> Plan:
    """What stands for a plan over single operators: a grouping of blocks, or selective checkpoints."""
    modules = document.get("modules") or {}
    rows = modules.get("rows") or []
    if not rows:
        raise PlanError(
            f"{path}: says nothing about modules, because the step's blocks are none or the plan is of "
            "an earlier version; export the model with tidemark.export() and plan again"
        )
    row = modules["row"] if row is None else row
    if row is not None:
        return _row_of(path, rows, row, modules)
    form = modules.get("selective")
    if form is None:
        raise PlanError(_nearest(path, rows, document))
    return Plan(
        segments=tuple(tuple(group) for group in form["segments"]),
        kept=tuple(_kept_calls(operators) for operators in form["operators"]),
        promise=_promise(form["predicted"]),
        title=f"selective form of {path}",
    )


def _nearest(path: pathlib.Path, rows: Sequence[Mapping[str, Any]],
             document: Mapping[str, Any]) -> str:
    limit = f"{document.get('limit', 'live')}_peak_bytes"
    number = min(range(len(rows)), key=lambda r: rows[r]["predicted"][limit])
    setting = rows[number]["setting"]
    return (
        f"{path}: no setting of whole blocks or kept operators stays within its budget of "
        f"{document['budget_bytes']:,} bytes; the nearest is row={number} (number_checkpoints "
        f"{setting['number_checkpoints']}, {setting['method']}), which needs "
        f"{rows[number]['predicted'][limit]:,} bytes"
    )


def _kept_calls(operators: Sequence[Mapping[str, Any]]) -> KeptCalls:
    return {
        operator["name"] + (f".{operator['overload']}" if operator["overload"] else ""):
            Calls(kept=frozenset(operator["kept"]), count=operator["count"])
        for operator in operators
    }


def _from_row(row: Mapping[str, Any], document: Mapping[str, Any] | None, title: str) -> Plan:
    setting = row["setting"]
    if row.get("status", "ok") == "invalid":
        raise PlanError(f"{title} is no valid setting: {' '.join(row.get('notes', []))}")
    if setting.get("partition_activations"):
        raise PlanError(
            f"{title} partitions checkpoints over ranks, which only DeepSpeed's own checkpointing "
            "does: use the exported ds_config.json with deepspeed.checkpointing.configure()"
        )
    notes = []
    twin = row
    if setting.get("method") == "reentrant" and setting.get("number_checkpoints"):
        found = _non_reentrant_twin(setting, document)
        if found is None:
            notes.append(
                "the sweep predicts reentrant checkpointing, and PyTorch's other form is put into "
                "force, which needs a little less; sweep with --method non_reentrant for its peak"
            )
        twin = found or row
    checkpointed = setting.get("number_checkpoints") is not None
    segments = setting.get("segments") or []
    if checkpointed and not segments:
        raise PlanError(f"{title} names no segments; sweep again with this version")
    return Plan(
        segments=tuple(tuple(group) for group in segments) if checkpointed else (),
        offload=setting.get("cpu_checkpointing", "off") != "off",
        promise=_promise(twin.get("predicted")),
        device=((document or {}).get("device") or {}).get("kind"),
        title=title,
        notes=tuple(notes),
    )


def _non_reentrant_twin(
    setting: Mapping[str, Any], document: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    wanted = {**setting, "method": "non_reentrant"}
    for row in (document or {}).get("rows", []):
        if row["setting"] == wanted:
            return row
    return None


def _promise(figures: Mapping[str, Any] | None) -> Promise | None:
    if not figures:
        return None
    return Promise(
        live_peak_bytes=figures["live_peak_bytes"],
        static_bytes=figures["static_bytes"],
        allocated_peak_bytes=figures.get("allocated_peak_bytes"),
        reserved_peak_bytes=figures.get("reserved_peak_bytes"),
    )
