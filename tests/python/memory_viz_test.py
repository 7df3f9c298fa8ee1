"""Memory snapshots of simulated steps, read by PyTorch's own viewer code."""

import io
import json
import pathlib
import pickle
import shutil
import subprocess

from torch.cuda import _memory_viz

from judged import parse_arguments


class PlainUnpickler(pickle.Unpickler):
    """A snapshot holds plain values; anything that would run code is refused."""

    def find_class(self, module, name):
        raise AssertionError(f"the snapshot names {module}.{name}")


def live_peak(events):
    """The highest sum of what is allocated, by the events alone."""
    alive = {}
    level = highest = 0
    for event in events:
        if event["action"] == "alloc":
            assert event["addr"] not in alive, "an address is handed out twice"
            alive[event["addr"]] = event["size"]
            level += event["size"]
        elif event["action"] == "free_completed":
            assert alive.pop(event["addr"]) == event["size"]
            level -= event["size"]
        highest = max(highest, level)
    return highest, alive


def check_row(tidemark, folder, number, row):
    file = folder / f"{number}.pickle"
    subprocess.run([tidemark, "report", folder / "sweep", "--format", "snapshot", "--row", str(number), "-o", file],
                   check=True)
    content = file.read_bytes()
    assert content[:2] == b"\x80\x04", "the web viewer reads protocol 4"
    snapshot = PlainUnpickler(io.BytesIO(content)).load()

    events = snapshot["device_traces"][0]
    peak, alive = live_peak(events)
    assert peak == row["predicted"]["live_peak_bytes"], (peak, row["predicted"]["live_peak_bytes"])
    (segment,) = snapshot["segments"]
    assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]
    left = {block["address"]: block["requested_size"] for block in segment["blocks"]
            if block["state"] == "active_allocated"}
    assert left == alive
    assert [e["time_us"] for e in events] == sorted(e["time_us"] for e in events)

    plain = lambda lines: lines  # the default draws with a script from the network
    assert "active_allocated" in _memory_viz.segments(snapshot, format_flamegraph=plain)
    assert _memory_viz.memory(snapshot, format_flamegraph=plain)
    assert "segments: 1" in _memory_viz.segsum(snapshot)
    assert "alloc(" in _memory_viz.trace(snapshot) or "= alloc" in _memory_viz.trace(snapshot)
    assert "snapshot.pickle" in _memory_viz.trace_plot(snapshot)
    assert "snapshot.pickle" in _memory_viz.segment_plot(snapshot)
    return len(events)


def main():
    arguments = parse_arguments()
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    model = pathlib.Path(__file__).parent.parent / "data" / "gpt2.pt2"
    subprocess.run([arguments.tidemark, "sweep", model, "--number-checkpoints", "none,2", "--no-execute",
                    "--partition-activations", "off", "--contiguous-memory-optimization", "off",
                    "--optimizer", "sgd", "-o", arguments.output / "sweep"], check=True, stdout=subprocess.DEVNULL)
    rows = json.loads((arguments.output / "sweep" / "sweep.json").read_text())["rows"]
    for number, row in enumerate(rows):
        events = check_row(arguments.tidemark, arguments.output, number, row)
        print(f"row {number}: {events} events, peak {row['predicted']['live_peak_bytes']} bytes")


if __name__ == "__main__":
    main()
