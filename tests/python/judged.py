"""What tests have in common that judge models one by one and go on after one that fails."""


def judge_each(names, judge):
    """Sums what judge(name) gives, passed and failed; a model that cannot be judged fails once."""
    passed = failed = 0
    for name in names:
        try:
            good, bad = judge(name)
        except Exception as error:  # noqa: BLE001 - every model is judged
            good, bad = 0, 1
            print(f"{name:11} FAILED: {type(error).__name__}: {str(error)[:1500]}", flush=True)
        passed, failed = passed + good, failed + bad
    return passed, failed
