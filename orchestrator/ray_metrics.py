"""What Prometheus sees of a run: gauges of Ray's metrics API, from the process that trains, set at reports only.

Ray's agent on each node offers them as `ray_guidedmix_…` for as long as the process lives, which goes on with the next
run: of a run that has ended a gauge keeps its last value for a while.
"""

from __future__ import annotations

from ray.util.metrics import Gauge

from orchestrator.folder import TrialFolder, read_json
from orchestrator.trial import OnReport

TAGS = ("study", "run", "fingerprint")


def exported(on_report: OnReport, folder: TrialFolder, metric: str) -> OnReport:
    """The same, told to Prometheus first: `on_report` may wait. `metric`: the objective's."""
    asked = read_json(folder.trial)
    run = asked["label"] or f"trial {asked['number']}"
    named = {"study": folder.path.parent.parent.name, "run": run, "fingerprint": folder.fingerprint}
    tags = {name: _ascii(value) for name, value in named.items()}
    step_now = Gauge("guidedmix_step", "steps trained", TAGS)
    objective = Gauge("guidedmix_objective", "of the last evaluation, as the study has it", TAGS)
    loss = Gauge("guidedmix_loss", "of training, as the run reports it", TAGS)
    speed = Gauge("guidedmix_steps_per_second", "since the report before, evaluation included", TAGS)
    before = (0, 0.0)

    def report(step: int, metrics: dict[str, float]) -> bool:
        nonlocal before
        seconds = metrics.get("time/seconds", 0.0)
        values = {step_now: float(step), objective: metrics.get(metric), loss: metrics.get("train/loss")}
        if seconds > before[1]:
            values[speed] = (step - before[0]) / (seconds - before[1])
        before = step, seconds
        for gauge, value in values.items():
            if value is not None:
                gauge.set(value, tags)
        return on_report(step, metrics)

    return report


def _ascii(words: str) -> str:
    """Ray takes nothing else: `usual · seed 0` becomes `usual, seed 0`."""
    return words.replace(" · ", ", ").encode("ascii", "backslashreplace").decode()
