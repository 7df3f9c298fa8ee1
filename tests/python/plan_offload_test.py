"""Plans that keep values on the host for a while, executed on the CPU and on the phantom: every
peak is the predicted one to the byte, both budgets are kept, the CPU's gradients are bit-equal."""

from executed_plans import MODELS, plain_figures, record, run_to_json
from judged import parse_arguments

PEAKS = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "host_peak_bytes",
         "pinned_reserved_bytes", "transfer_bytes"]


def check_executed(plan, device):
    for figure in PEAKS:
        assert plan["measured"][figure] == plan["predicted"][figure], (device, figure)
    verdict = "equal" if device == "cpu" else "not_comparable"
    assert plan["gradients"] == verdict, plan["gradients"]


def check_plan(tool, step, device, share, folder):
    """Whether the plan moves anything."""
    plain = plain_figures(tool, step)
    own = plain["live_peak_bytes"] - plain["static_bytes"]
    budget = plain["static_bytes"] + int(share * own)
    host_budget = own // 2
    command = [tool, "plan", step, "--limit", "live", "--budget", budget]
    alone = run_to_json(command)
    saved = folder / "plan.json"
    both = run_to_json(command + ["--host-budget", host_budget, "--execute", "-o", saved])
    check_executed(both, device)
    check_executed(run_to_json([tool, "run", step, "--plan", saved]), device)
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
    arguments = parse_arguments()
    for device in ("cpu", "phantom:h200"):
        moving = 0
        for model in MODELS:
            step = record(arguments.tidemark, model, device, arguments.output)
            for share in (0.7, 0.5):
                moving += check_plan(arguments.tidemark, step, device, share, arguments.output)
        assert moving >= 2, (device, moving)


if __name__ == "__main__":
    main()
