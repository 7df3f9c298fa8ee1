"""The CUDA device on a phantom GPU.

First every setting of small architectures is predicted and executed: live, allocated, reserved and
pinned bytes agree to the byte. Then PyTorch's eager step with torch.utils.checkpoint and DeepSpeed's
checkpoint() runs on the same phantom, also as a job of two ranks, each on a phantom of its own: their
allocated peaks and the predicted one differ by at most 0.1 %. DeepSpeed's asynchronous copies run
twice, done at once and never done before the step ends: what is in use then is as the row says, and
so is what is reserved, to the byte, where the blocks let go of values as the exported program does.

    phantom_device_test.py --tidemark build/release/tidemark --output DIR [--gpu h200] [--only NAME]
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import torch

import estimator_models
import phantom_judge
import view_models
from architectures import export
from judged import exit_status, judge_each, parse_arguments, run_checks

TOLERANCE = 0.001
EXACT = ["gpt2", "llama", "bert", "timm_vit", "timm_resnet", "unet", "bfloat16", "autocast"]
# Each with no checkpoint, one for each block, and groups of blocks.
JUDGED = {"gpt_held": "none,8,24,48", "resnet50": "none,4,8,16", "vit": "none,2,3,6",
          "encoder": "none,2,3,6", "encoder_still": "none,3", "hf_gpt2": "2,8", "hf_llama": "2,8",
          **{name: str(view_models.BLOCKS) for name in view_models.MODELS}}
# Alone, against both frameworks, and as two ranks, against each form that DeepSpeed has. The
# encoder's first checkpoint is a view, which DeepSpeed empties in vain.
RANKS = {"gpt_held": (1, 2), "resnet50": (1,), "vit": (1, 2), "encoder": (1, 2), "encoder_still": (1,),
         "hf_gpt2": (2,), "hf_llama": (2,), **{name: (1, 2) for name in view_models.MODELS}, "whole": (1,),
         "twice": (1,)}
FIGURES = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "first_reserved_peak_bytes",
           "host_peak_bytes", "pinned_reserved_bytes", "static_bytes", "transfer_bytes", "peak_breakdown"]


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def sweep(tidemark, gpu, path, folder, *options, method="both"):
    shutil.rmtree(folder, ignore_errors=True)
    run([tidemark, "sweep", path, "--device", f"phantom:{gpu}", "--method", method, *options, "-o", folder])
    return json.loads((folder / "sweep.json").read_text())["rows"]


def check_exact(rows):
    """Predicted and executed agree in every row that runs."""
    ran = 0
    for row in rows:
        if row["status"] == "invalid":
            continue
        assert row["status"] == "ok", (row["setting"], row["status"], row["notes"])
        predicted, measured = row["predicted"], row["measured"]
        for figure in FIGURES:
            assert predicted[figure] is not None, (figure, "is not predicted")
            assert predicted[figure] == measured[figure], (
                row["setting"], figure, predicted[figure], measured[figure])
        assert measured["live_peak_bytes"] <= measured["allocated_peak_bytes"] <= measured["reserved_peak_bytes"]
        assert measured["step_seconds"] is None and row["gradients"] == "not_comparable"
        ran += 1
    assert ran > 1, "no checkpointed setting ran"
    return ran


def exact(name, arguments):
    program, _ = export(name)
    path = arguments.output / f"{name}.pt2"
    torch.export.save(program, path)
    ran = [check_exact(sweep(arguments.tidemark, arguments.gpu, path, arguments.output / f"{name}.{ranks}",
                             "--model-parallel-size", ranks)) for ranks in (1, 2)]
    return f"M=1 and M=2: {ran[0]} and {ran[1]} settings executed as predicted"


def out_of_memory(arguments):
    """A card on which only some settings fit: a row for each that does not, predicted and executed."""
    [profile] = [p for p in json.loads(run([arguments.tidemark, "list", "gpus", "--json"])) if p["name"] == arguments.gpu]
    profile["name"] = "small"
    profile["total_memory_bytes"] = profile["context_memory_bytes"] + (150 << 20)
    path = arguments.output / "small.json"
    path.write_text(json.dumps(profile))
    model = pathlib.Path(__file__).parent.parent / "data" / "gpt2.pt2"
    rows = sweep(arguments.tidemark, f"custom:{path}", model, arguments.output / "small",
                 "--number-checkpoints", "none,12")
    plain, checkpointed = rows[0], rows[1]
    assert plain["status"] == "out_of_memory" and plain["fits"] is False, plain
    assert any("were asked for and" in note for note in plain["notes"]), plain["notes"]
    assert any("predicted to run out of memory" in note for note in plain["notes"]), plain["notes"]
    assert checkpointed["status"] == "ok" and checkpointed["fits"] is True, checkpointed
    check_exact(rows[1:])
    return "the plain step is recorded, predicted and executed out of memory; the others go on"


def other_layout(arguments):
    """torch.export leaves out a contiguous() with nothing to do on the CPU; here it has."""
    model, inputs, _ = phantom_judge.MODELS["encoder_still"]()
    path = arguments.output / "encoder_plain.pt2"
    torch.export.save(torch.export.export(model.train(), inputs), path)
    options = ["--number-checkpoints", "none,3"]
    check_exact(sweep(arguments.tidemark, arguments.gpu, path, arguments.output / "plain.sweep", *options))
    return "copied where the card needs it"


def jobs_of(rows):
    """What of a sweep the frameworks can run themselves in one process."""
    jobs = []
    for row in rows:
        setting = row["setting"]
        if row["status"] != "ok":
            continue
        flags = (setting["partition_activations"] or setting["contiguous_memory_optimization"]
                 or setting["cpu_checkpointing"] != "off")
        frameworks = []
        if not flags:
            frameworks.append("torch")
        # Its blocking form without partitioning is older than the DeepSpeed that is installed.
        if (setting["method"] == "reentrant" and setting["number_checkpoints"] is not None
                and (setting["partition_activations"] or setting["cpu_checkpointing"] != "blocking")):
            frameworks.append("deepspeed")
        for framework in frameworks:
            jobs.append({"framework": framework, "segments": setting["segments"], "setting": setting,
                         "predicted": row["predicted"]["allocated_peak_bytes"],
                         "lagging": lagging_copies(row)})
    return jobs


def lagging_copies(row):
    """What is in use and reserved with DeepSpeed's own asynchronous copies, at least and at most."""
    for note in row["notes"]:
        found = re.findall(r"\((\d+) B\) in use and \S+ \S+ \((\d+) B\) reserved", note)
        if note.startswith("DeepSpeed's own copies: "):
            ends = [{"in_use": int(used), "reserved": int(reserved)} for used, reserved in found]
            return [ends[0], ends[-1]]
    return None


def describe(job):
    setting = job["setting"]
    words = [str(setting["number_checkpoints"] or "none"), job["framework"], setting["method"]]
    words += ["partition"] * setting["partition_activations"]
    words += {"off": [], "blocking": ["cpu"], "async": ["async"]}[setting["cpu_checkpointing"]]
    words += ["contiguous"] * setting["contiguous_memory_optimization"]
    words += [f"M={setting['model_parallel_size']}"] * (setting["model_parallel_size"] > 1)
    words += ["exported"] * job.get("as_exported", False)
    return " ".join(words)


def ask_frameworks(name, jobs, arguments, *options, ranks=1):
    """The peaks of one model's jobs, in a process of their own for each rank."""
    if not jobs:
        return []
    asked, answered = arguments.output / f"{name}.jobs.json", arguments.output / f"{name}.eager.json"
    asked.write_text(json.dumps({name: jobs}))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks] if ranks > 1 else []
    run([arguments.tidemark, "phantom", "--gpu", arguments.gpu, *options, "--", sys.executable, *launcher,
         pathlib.Path(__file__).parent / "phantom_judge.py", asked, answered])
    paths = [f"{answered}.{rank}" for rank in range(ranks)] if ranks > 1 else [answered]
    answers = [json.loads(pathlib.Path(path).read_text())[name] for path in paths]
    assert all(answer == answers[0] for answer in answers), f"{name}: the ranks differ"
    return answers[0]


def is_close(predicted, real):
    return abs(predicted - real) <= TOLERANCE * real


def print_job(name, job, eager, good, words=""):
    if not isinstance(eager, dict):
        print(f"{name:11} {describe(job):46} {eager} FAILED", flush=True)
        return
    allocated = eager["allocated"]
    print(f"{name:11} {describe(job):46} eager {allocated:>13,} predicted {job['predicted']:>13,} "
          f"{100 * (job['predicted'] - allocated) / allocated:+.4f} %{words}{'' if good else ' FAILED'}",
          flush=True)


def judge_jobs(name, jobs, ranks, arguments):
    passed = 0
    for job, eager in zip(jobs, ask_frameworks(name, jobs, arguments, ranks=ranks)):
        good = isinstance(eager, dict) and is_close(job["predicted"], eager["allocated"])
        print_job(name, job, eager, good)
        passed += good
    return passed, len(jobs) - passed


def judge_lagging(name, jobs, arguments):
    """Asynchronous copies: both ends of what may happen. The blocks run as they are written, where
    names that Python holds decide what is reserved beyond what is in use, and as exported."""
    jobs = [{**job, "as_exported": exported} for job in jobs for exported in (False, True)]
    passed = 0
    ends = [ask_frameworks(name, jobs, arguments, *options) for options in ((), ("--backlog",))]
    for job, *eager in zip(jobs, *ends):
        good = all(isinstance(end, dict) and is_close(job["predicted"], end["allocated"])
                   and is_close(predicted["in_use"], end["in_use"])
                   and (end["reserved"] == predicted["reserved"] or not job["as_exported"])
                   for end, predicted in zip(eager, job["lagging"]))
        words = "".join(
            f", {when}: in use {end['in_use']:,} predicted {predicted['in_use']:,}, "
            f"reserved {end['reserved']:,} predicted {predicted['reserved']:,}"
            for when, end, predicted in zip(("drained", "backlogged"), eager, job["lagging"])
            if isinstance(end, dict))
        print_job(name, job, eager[0], good, words)
        passed += good
    return passed, len(jobs) - passed


def judge_eager(name, arguments):
    """Exports and sweeps a model, then asks the frameworks."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "profiler" / "python"))
    import tidemark

    estimator_models.answer_as_on_a_card()
    model, inputs, _ = phantom_judge.MODELS[name]()
    path = arguments.output / f"{name}.pt2"
    tidemark.export(model.train(), inputs, path=path)
    counts = []
    for ranks in RANKS[name]:
        rows = sweep(arguments.tidemark, arguments.gpu, path, arguments.output / f"{name}.sweep",
                     "--number-checkpoints", JUDGED[name], "--model-parallel-size", ranks,
                     method="both" if ranks == 1 else "reentrant")
        check_exact(rows)
        jobs = [job for job in jobs_of(rows) if ranks == 1 or job["framework"] == "deepspeed"]
        # Copies lag in one process as in two. Of the views, those with gaps stand for all: their
        # copies take the most memory beside them.
        lagging = [job for job in jobs if ranks == 1
                   and (name == "columns" or name not in view_models.MODELS)
                   and job["setting"]["cpu_checkpointing"] == "async"]
        counts.append(judge_jobs(name, [job for job in jobs if job not in lagging], ranks, arguments))
        counts.append(judge_lagging(name, lagging, arguments))
    return tuple(map(sum, zip(*counts)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", default="h200")
    parser.add_argument("--only", choices=sorted({*EXACT, *JUDGED, "small card", "other layout"}))
    arguments = parse_arguments(parser)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    checks = {name: lambda name=name: exact(name, arguments) for name in EXACT}
    checks["other layout"] = lambda: other_layout(arguments)
    checks["small card"] = lambda: out_of_memory(arguments)
    passed, failed = run_checks({name: check for name, check in checks.items() if arguments.only in (None, name)})
    judged = [name for name in JUDGED if arguments.only in (None, name)]
    good, bad = judge_each(judged, lambda name: judge_eager(name, arguments))
    return exit_status(passed + good, failed + bad)


if __name__ == "__main__":
    sys.exit(main())
