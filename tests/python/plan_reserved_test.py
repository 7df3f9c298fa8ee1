"""Plans whose budget limits what the caching allocator reserves, executed on the phantom by the real
allocator: every peak is the predicted one to the byte, and none exceeds its budget."""

import json

from executed_plans import MODELS, plain_figures, record, run, run_to_json
from judged import parse_arguments

PEAKS = ["live_peak_bytes", "allocated_peak_bytes", "reserved_peak_bytes"]
SHARES = [0.8, 0.6, 0.4]


def check_plan(tool, step, limit, budget, output, alloc_conf="default"):
    """The plan's predicted figures; None where none fits."""
    code, text, error = run([tool, "plan", step, "--limit", limit, "--budget", budget, "--execute",
                             "--alloc-conf", alloc_conf, "--json", "-o", output])
    if code == 3:
        assert not text and "the smallest it reached needs" in error, error
        return None
    assert code == 0, (limit, budget, code, error)
    plan = json.loads(text)
    for peak in PEAKS:
        assert plan["measured"][peak] == plan["predicted"][peak], (limit, budget, peak)
    limited = plan["measured"][f"{limit}_peak_bytes"]
    assert limited <= budget, (limit, limited, budget)
    if limit != "reserved":
        return plan["predicted"]
    again = run_to_json([tool, "run", step, "--plan", output])
    assert again["measured"][f"{limit}_peak_bytes"] == limited
    return plan["predicted"]


def check_model(tool, model, folder):
    step = record(tool, model, "phantom:h200", folder)
    plain = plain_figures(tool, step)
    own = plain["reserved_peak_bytes"] - plain["static_bytes"]
    times = []
    for share in SHARES:
        budget = plain["static_bytes"] + int(share * own)
        plans = {limit: check_plan(tool, step, limit, budget, folder / f"{model}.plan.json")
                 for limit in ("live", "reserved")}
        if plans["reserved"] is None:
            print(f"{model}: budget {budget}, no plan")
            break
        # What the allocator adds leaves less room for the same plan.
        assert plans["live"]["step_seconds"] <= plans["reserved"]["step_seconds"]
        times.append(plans["reserved"]["step_seconds"])
        check_plan(tool, step, "reserved", budget, folder / f"{model}.expandable.json",
                   "expandable_segments:True")
        print(f"{model}: budget {budget}, reserved {plans['reserved']['reserved_peak_bytes']}, "
              f"{plans['reserved']['step_seconds'] / plain['step_seconds']:.3f} of the step's time")
    assert len(times) >= 2 and times == sorted(times), times


def main():
    arguments = parse_arguments()
    for model in MODELS:
        check_model(arguments.tidemark, model, arguments.output)


if __name__ == "__main__":
    main()
