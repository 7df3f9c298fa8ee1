"""Puts unchanged PyTorch programs on the phantom GPU and checks what `tidemark phantom` tells of them.

    phantom_test.py --tidemark build/release/tidemark --output FOLDER
"""

import _ctypes
import argparse
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

from judged import exit_status, parse_arguments, run_checks
from phantom_programs import HEADER, PROGRAMS

RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


class Phantom:
    def __init__(self, tidemark, folder):
        self.tidemark, self.folder = tidemark, folder

    def run(self, name, *options, arguments=(), launcher=(), environment=None):
        script = self.folder / f"program_{name}.py"  # shadows no package
        script.write_text(HEADER + PROGRAMS[name])
        report = self.folder / f"{name}.json"
        command = [self.tidemark, "phantom", "--report", report, *options, "--", sys.executable]
        done = subprocess.run(
            [str(part) for part in (*command, *launcher, script, *arguments)],
            capture_output=True, text=True, timeout=300, env={**os.environ, **(environment or {})},
        )
        return done, json.loads(report.read_text()) if report.exists() else None


def told_peaks(done):
    return [tuple(map(int, line.split()[-2:])) for line in done.stdout.splitlines() if "peaks" in line]


def reported_peaks(report):
    return [
        (device["allocated_peak_bytes"], device["reserved_peak_bytes"])
        for process in report["processes"] for device in process["devices"]
    ]


def expect(condition, done, what):
    if not condition:
        raise AssertionError(f"{what}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def check_peaks(phantom, name, options=(), **how):
    done, report = phantom.run(name, *options, **how)
    expect(done.returncode == 0 and report["exit_status"] == 0, done, f"exit {done.returncode}")
    told = told_peaks(done)
    expect(told and sorted(told) == sorted(reported_peaks(report)), done, f"{told} {report}")
    return done, report


def check_out_of_memory(phantom, environment=None):
    done, report = check_peaks(phantom, "out_of_memory", environment=environment)
    refused = report["processes"][0]["devices"][0]["out_of_memory"]
    expect(refused and refused["requested_bytes"] == 1 << 34, done, str(report))
    # 8 blocks of 16 GiB fit on a card of 139.8 GiB.
    expect(refused["allocated_bytes"] == 8 << 34, done, str(refused))


def check_beside_driver(phantom):
    """Memory runs out as elsewhere on a machine whose driver has a management library of its own."""
    driver = phantom.folder / "driver"
    driver.mkdir(exist_ok=True)
    # Any library does: PyTorch would look for functions in it and find none.
    shutil.copy(_ctypes.__file__, driver / "libnvidia-ml.so.1")
    check_out_of_memory(phantom, {"LD_LIBRARY_PATH": str(driver)})


def check_refusal(phantom):
    done, report = phantom.run("lstm")
    refused = [c["name"] for c in report["processes"][0]["calls_without_answer"]
               if c["answer"] == "refused"]
    expect(done.returncode == 1 and any("RNN" in name or "Dropout" in name for name in refused),
           done, str(report))
    remedy = "torch.backends.cudnn.flags(enabled=False)"
    expect(remedy in done.stderr, done, "the program's own error does not say what to do")
    expect(any(remedy in note for note in report["processes"][0]["notes"]), done, str(report))


def check_conditions(phantom):
    _, report = check_peaks(phantom, "conditions")
    notes = report["processes"][0]["notes"]
    assert any("condition from the GPU 7 times" in note for note in notes), report


def check_sizes(phantom):
    """Sizes that kernels would make are named, and are an error with --strict."""
    done, report = check_peaks(phantom, "routed")
    [process] = report["processes"]
    [call] = process["calls_without_answer"]
    expect("nonzero" in call["name"] and call["times"] == 1, done, str(report))
    expect(any("fixed size" in note for note in process["notes"]), done, str(report))
    expect(any("whole number from the GPU once" in note for note in process["notes"]), done,
           str(report))
    done, _ = phantom.run("routed", "--strict")
    expect(done.returncode == 1 and "nonzero" in done.stderr, done, f"exit {done.returncode}")


def check_graph(phantom):
    """Refused at the capture's beginning, which a program can catch."""
    done, report = phantom.run("graph")
    refused = [c["name"] for c in report["processes"][0]["calls_without_answer"]
               if c["answer"] == "refused"]
    expect(done.returncode == 3 and "not supported on the phantom GPU" in done.stdout
           and refused == ["cudaStreamBeginCapture"], done, str(report))


def check_abrupt_end(phantom, name, status, allocated, sentence):
    """However it ends, nothing that was allocated is missing."""
    done, report = phantom.run(name)
    expect(done.returncode == status and report["exit_status"] == status, done, str(report))
    expect(reported_peaks(report)[0][0] == allocated, done, str(report))
    [process] = report["processes"]
    expect(any("abruptly" in note for note in process["notes"]), done, str(report))
    expect(any("no backward" in note for note in process["notes"]), done, str(report))
    expect(len(report["notes"]) == 1 and sentence in report["notes"][0], done, str(report))


def check_terminated(phantom):
    """What ends a job, as a queue does, ends the command, and what it used is told."""
    script, report = phantom.folder / "program_endless.py", phantom.folder / "endless.json"
    script.write_text(HEADER + PROGRAMS["endless"])
    command = [phantom.tidemark, "phantom", "--report", report, "--", sys.executable, script]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "begun\n"
        run.terminate()
        assert run.wait(60) == 128 + 15
    told = json.loads(report.read_text())
    assert reported_peaks(told)[0][0] == 1 << 20 and "signal 15" in told["notes"][0], told


def check_early_exit(phantom):
    done, report = phantom.run("early")
    expect(done.returncode == 1 and report["processes"] == [], done, str(report))
    expect("before it used the GPU" in report["notes"][0], done, str(report))


def check_training(phantom, name, **how):
    """A step that ran to its end: nothing to remark but what libraries ask of gradients and seeds."""
    done, report = check_peaks(phantom, name, **how)
    expect(report["notes"] == [], done, str(report))
    for process in report["processes"]:
        expect(all("read a condition" in note for note in process["notes"]), done, str(report))
        expect(process["calls_without_answer"] == [], done, str(report))
        expect(process["devices"][0]["peak"]["phase"] != "outside of a step", done, str(report))
    return done, report


def check_trainer(phantom):
    """Transformers asks the device whether a mask can be left out."""
    done, report = check_peaks(phantom, "gpt2_trainer")
    [process] = report["processes"]
    expect(len(process["notes"]) == 1 and "condition" in process["notes"][0], done, str(report))


def alive_at(events, highest):
    """The allocations that are alive at the first moment of so many bytes."""
    level, alive = 0, {}
    for event in events:
        block = -(-event["size"] // 512) * 512
        if event["action"] == "alloc":
            alive[event["addr"]] = event
            level += block
        elif event["action"] == "free_completed":
            alive.pop(event["addr"], None)
            level -= block
        if level == highest:
            break
    return list(alive.values())


def check_stacks(done, allocations):
    """What holds memory at the peak names the user's line, or in backward the autograd node."""
    in_script = 0
    for event in allocations:
        frames = event["frames"]
        expect(frames, done, f"no stack: {event}")
        is_named = any(frame["filename"].endswith("program_transformer.py") and frame["line"] > 0
                       for frame in frames)
        is_backward = any(frame["filename"] == "backward" and frame["name"] for frame in frames)
        expect(is_named or is_backward, done, str(event))
        in_script += is_named
    expect(in_script > 0, done, f"{in_script} of {len(allocations)} name the script")


def check_snapshot(phantom):
    """Its history adds up to the peak, and PyTorch's own viewer reads it."""
    from torch.cuda import _memory_viz

    path = phantom.folder / "transformer.pickle"
    done, report = check_peaks(phantom, "transformer", options=["--snapshot", path])
    [process] = report["processes"]
    expect(process["snapshot"] == str(path), done, str(report))
    with path.open("rb") as file:
        snapshot = pickle.load(file)
    level = highest = 0
    events = snapshot["device_traces"][0]
    for event in events:
        block = -(-event["size"] // 512) * 512
        level += {"alloc": block, "free_completed": -block}.get(event["action"], 0)
        highest = max(highest, level)
    expect(highest == process["devices"][0]["allocated_peak_bytes"], done, f"{highest} {report}")
    check_stacks(done, alive_at(events, highest))
    expect("alloc" in _memory_viz.trace(snapshot), done, "no trace")
    expect("snapshot.pickle" in _memory_viz.trace_plot(snapshot), done, "no plot")


def check_workers(phantom):
    _, report = check_training(phantom, "workers")
    # Workers that leave the GPU alone are no processes on it.
    assert len(report["processes"]) == 1, report


def check_fork(phantom):
    done, report = phantom.run("fork")
    expect("child 3" in done.stdout and "initialization error" in done.stdout, done, "no error")
    parent, child = report["processes"]
    expect(parent["devices"] and not child["devices"], done, str(report))
    expect("forked" in child["notes"][0] and "spawn" in child["notes"][0], done, str(report))
    expect(child["calls_without_answer"] == [], done, str(report))


def check_stages(phantom, environment):
    done, _ = check_training(phantom, "deepspeed", arguments="0123", environment=environment)
    expect(done.stdout.count("stepped") == 4, done, "not every stage of ZeRO made its steps")


def check_usage(phantom):
    """Wrong usage is 2, a broken installation 1, each told in one sentence."""
    def ends(status, words, *arguments, program=phantom.tidemark):
        command = [str(part) for part in (program, "phantom", *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        expect(done.returncode == status, done, f"exit {done.returncode}")
        expect(done.stderr.count("\n") == 1 and words in done.stderr, done, words)

    ends(2, "needs a command")
    ends(2, "needs a command after --", "--gpu", "h200", "python", "train.py", "--epochs", "3")
    ends(1, "there is no folder", "--report", phantom.folder / "missing" / "r.json", "--", "true")
    ends(2, "h200", "--gpu", "h2000", "--", "true")
    ends(2, "cannot be started", "--", "no_such_program")
    alone = phantom.folder / "tidemark"
    shutil.copy(phantom.tidemark, alone)
    ends(1, "keep the folder phantom beside the program", "--", "true", program=alone)


def check_lost_card(phantom):
    """A card that fails for good: the rows so far stay, and the sweep goes on with a new one."""
    model = pathlib.Path(__file__).parent.parent / "data" / "gpt2.pt2"
    folder = phantom.folder / "lost"
    shutil.rmtree(folder, ignore_errors=True)

    def sweep(kernels, *options):
        command = [phantom.tidemark, "sweep", model, "--device", "phantom:l4", "-o", folder,
                   "--number-checkpoints", "none,2,12", "--partition-activations", "off",
                   "--contiguous-memory-optimization", "off", *options]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=300,
            env={**os.environ, "TIDEMARK_PHANTOM_LOST_AFTER": str(kernels)})
        path = folder / "sweep.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    done, result = sweep(10)
    expect(done.returncode == 1 and result is None, done, "recording goes on without a card")
    expect("uncorrectable ECC error" in done.stderr.splitlines()[-1], done, "no sentence")
    # The recording needs about 1,500 kernels, each row at least twice 500.
    done, result = sweep(4000)
    rows = result["rows"]
    expect(done.returncode == 1 and 1 < len(rows) < 7, done, f"{len(rows)} rows")
    expect([row["status"] for row in rows] == ["ok"] * (len(rows) - 1) + ["failed"], done, "rows")
    expect(rows[-1]["notes"][0].endswith("uncorrectable ECC error encountered"), done, str(rows[-1]["notes"]))
    expect(any("lost" in note for note in result["notes"]), done, str(result["notes"]))
    done, result = sweep(0, "--resume")
    expect(done.returncode == 0 and len(result["rows"]) == 7, done, f"exit {done.returncode}")


def check_strict(phantom):
    done, _ = phantom.run("values", "--strict")
    expect(done.returncode == 0, done, f"exit {done.returncode}")
    done, _ = phantom.run("resnet50", "--strict")
    expect(done.returncode == 1 and "batch norm" in done.stderr, done, f"exit {done.returncode}")


def check_strict_tool(phantom):
    """The tool's own commands: counted and named in notes, an error with --strict."""
    data = pathlib.Path(__file__).parent.parent / "data"
    few = ["--number-checkpoints", "none", "--partition-activations", "off",
           "--cpu-checkpointing", "off", "--contiguous-memory-optimization", "off"]

    def ends(status, command, model, *options):
        line = [phantom.tidemark, command, data / model, *options]
        if pathlib.Path(model).suffix == ".pt2":
            line += ["--device", "phantom:h200"]
        done = subprocess.run([str(part) for part in line], capture_output=True, text=True, timeout=300)
        expect(done.returncode == status, done, f"exit {done.returncode}")
        if "resnet" in str(model):
            expect("batch norm" in done.stdout + done.stderr, done, "not named")

    trace, plan = phantom.folder / "resnet.json.gz", phantom.folder / "plan.json"
    ends(0, "sweep", "gpt2.pt2", *few, "--strict")
    ends(0, "sweep", "resnet.pt2", *few)
    ends(1, "sweep", "resnet.pt2", *few, "--strict")
    ends(1, "record", "resnet.pt2", "--strict", "-o", trace)
    ends(0, "plan", "resnet.pt2", "--budget", "1GiB", "-o", plan)
    ends(0, "run", trace, "--plan", plan)
    ends(1, "run", trace, "--plan", plan, "--strict")
    # The trace remembers what nothing that is only predicted asks for again.
    ends(0, "inspect", trace)
    ends(1, "inspect", trace, "--strict")
    ends(0, "sweep", trace, *few, "--no-execute")
    ends(1, "sweep", trace, *few, "--no-execute", "--strict")
    ends(0, "plan", trace, "--budget", "1GiB")
    ends(1, "plan", trace, "--strict")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="part of the name of the checks to run")
    arguments = parse_arguments(parser)
    phantom = Phantom(arguments.tidemark, arguments.output)
    one_rank = {**RANK, "MASTER_PORT": "29671"}
    def torchrun(ranks):
        return ["-m", "torch.distributed.run", "--nproc-per-node", ranks, "--master-port", "29672"]

    checks = {
        "values": lambda: check_peaks(phantom, "values"),
        "snapshot": lambda: check_snapshot(phantom),
        "gpt2_trainer": lambda: check_trainer(phantom),
        "accelerate": lambda: check_training(phantom, "accelerate"),
        "Triton": lambda: check_peaks(phantom, "triton"),
        "torch.compile": lambda: check_training(
            phantom, "compiled", environment={"TORCHINDUCTOR_COMPILE_THREADS": "1"}),
        "workers": lambda: check_workers(phantom),
        "fork": lambda: check_fork(phantom),
        "crash": lambda: check_abrupt_end(
            phantom, "crash", 139, (1 << 30) + (3 << 20), "signal 11"),
        "terminated": lambda: check_terminated(phantom),
        "early exit": lambda: check_early_exit(phantom),
        "usage": lambda: check_usage(phantom),
        "lost card": lambda: check_lost_card(phantom),
        "strict tool": lambda: check_strict_tool(phantom),
        "out of memory": lambda: check_out_of_memory(phantom),
        "beside a driver": lambda: check_beside_driver(phantom),
        "refusal": lambda: check_refusal(phantom),
        "conditions": lambda: check_conditions(phantom),
        "sizes by values": lambda: check_sizes(phantom),
        "captured graph": lambda: check_graph(phantom),
        "sudden end": lambda: check_abrupt_end(
            phantom, "sudden_end", 7, (1 << 30) + (1 << 20), "exit status 7"),
        "strict": lambda: check_strict(phantom),
        "deepspeed on two ranks": lambda: check_peaks(
            phantom, "deepspeed", arguments=["2"], launcher=torchrun(2)),
        "every ZeRO stage": lambda: check_stages(phantom, one_rank),
        "torchtitan's loop": lambda: check_training(
            phantom, "torchtitan", environment=one_rank),
        "torchtitan's loop on four ranks": lambda: check_training(
            phantom, "torchtitan", launcher=torchrun(4)),
    }
    if arguments.only:
        checks = {name: check for name, check in checks.items() if arguments.only in name}
    return exit_status(*run_checks(checks))


if __name__ == "__main__":
    sys.exit(main())
