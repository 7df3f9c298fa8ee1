"""Plans that keep values on the host for a while, executed on the CPU and on the phantom: every
peak is the predicted one to the byte, both budgets are kept, the CPU's gradients are bit-equal."""

import argparse
import json
import pathlib
import subprocess

MODELS = pathlib.Path(__file__).parents[1] / "data"
PEAKS = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "host_peak_bytes",
         "pinned_reserved_bytes", "transfer_bytes"]


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, (command, done.returncode, done.stderr)
    return json.loads(done.stdout) if done.stdout.startswith("{") else None


def check_executed(plan, device):
    for figure in PEAKS:
        assert plan["measured"][figure] == plan["predicted"][figure], (device, figure)
    verdict = "equal" if device == "cpu" else "not_comparable"
    assert plan["gradients"] == verdict, plan["gradients"]


def check_plan(tool, step, device, share, folder):
    """Whether the plan moves anything."""
    plain = run([tool, "plan", step, "--budget", "1TiB", "--json"])["predicted"]
    own = plain["live_peak_bytes"] - plain["static_bytes"]
    budget = plain["static_bytes"] + int(share * own)
    host_budget = own // 2
    command = [tool, "plan", step, "--limit", "live", "--budget", budget, "--json"]
    alone = run(command)
    saved = folder / "plan.json"
    both = run(command + ["--host-budget", host_budget, "--execute", "-o", saved])
    check_executed(both, device)
    check_executed(run([tool, "run", step, "--plan", saved, "--json"]), device)
    assert both["measured"]["live_peak_bytes"] <= budget
    assert both["measured"]["host_peak_bytes"] <= host_budget
    times = [figures["step_seconds"] for figures in (plain, both["predicted"], alone["predicted"])]
    assert times == sorted(times), times
    assert both["lower_bound_seconds"] <= both["predicted"]["step_seconds"]
    print(f"{device} {step.name}: {share} of the step's own memory, "
          f"{both['predicted']['transfer_bytes']} B moved; with offload {times[1] / times[0]:.3f}, "
          f"without {times[2] / times[0]:.3f} of the step's time")
    return both["predicted"]["transfer_bytes"] > 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tidemark", required=True, type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for device in ("cpu", "phantom:h200"):
        moving = 0
        for model in ("gpt2", "resnet"):
            step = arguments.output / f"{model}.json.gz"
            run([arguments.tidemark, "record", MODELS / f"{model}.pt2", "--device", device,
                 "-o", step])
            for share in (0.7, 0.5):
                moving += check_plan(arguments.tidemark, step, device, share, arguments.output)
        assert moving >= 2, (device, moving)


if __name__ == "__main__":
    main()
