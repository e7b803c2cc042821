"""Runs are stopped where Optuna stops them, however often the search is started in between."""

from __future__ import annotations

import optuna
import pytest

from orchestrator.results import load_trials
from tests.orchestrator.simulated import STEPS, Simulated, fingerprint_of, make_study

SLOPES = [0.5, 0.9, 0.1, 0.95, 0.2, 0.6, 1.0, 0.05, 0.7]


def line(params, step):
    return params["augment.flip"] * step / STEPS


def lines_study(**scheduler):
    return make_study(
        {"augment.flip": {"choice": SLOPES}}, search={"sampler": "grid", "trials": 9}, scheduler=scheduler
    )


def ended_at(simulated) -> list[int]:
    return [record.step for record in load_trials(simulated.folder)]


def optunas_own(pruner) -> list[int]:
    """Where Optuna itself stops the same lines."""
    steps = []

    def objective(trial):
        slope = trial.suggest_categorical("slope", SLOPES)
        for step in range(20, STEPS + 1, 20):
            trial.report(slope * step / STEPS, step)
            if step < STEPS and trial.should_prune():
                steps.append(step)
                raise optuna.TrialPruned
        steps.append(STEPS)
        return slope

    study = optuna.create_study(direction="maximize", pruner=pruner)
    for slope in SLOPES:
        study.enqueue_trial({"slope": slope})
    study.optimize(objective, n_trials=len(SLOPES))
    return steps


PRUNERS = {
    "asha": optuna.pruners.SuccessiveHalvingPruner(min_resource=20, reduction_factor=2),
    "median": optuna.pruners.MedianPruner(n_warmup_steps=20),
    "none": optuna.pruners.NopPruner(),
}


@pytest.mark.parametrize("name", list(PRUNERS))
def test_each_scheduler_stops_where_optuna_does(tmp_path, name):
    simulated = Simulated(tmp_path / "study", lines_study(name=name, first_rung=0.191, eta=2), line, every=20)
    simulated.run()
    assert ended_at(simulated) == optunas_own(PRUNERS[name])


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_resumed_scheduler_decides_as_if_it_had_never_stopped(tmp_path, name):
    study = lines_study(name=name, first_rung=0.2, eta=2)
    whole = Simulated(tmp_path / "whole", study, line, every=20)
    whole.run()
    for trials in (3, 4, 2):
        parts = Simulated(tmp_path / "parts", study, line, every=20)
        parts.run(trials)
    assert ended_at(parts) == ended_at(whole)


def test_asha_stops_the_bad_curves_and_keeps_the_best(tmp_path):
    simulated = Simulated(tmp_path / "study", lines_study(name="asha", first_rung=0.25, eta=3), line)
    simulated.run()
    steps = dict(zip(SLOPES, ended_at(simulated), strict=True))
    assert all(steps[slope] == STEPS for slope in (0.5, 0.9, 0.95, 1.0))
    assert all(steps[slope] == 25 for slope in (0.05, 0.1, 0.2, 0.6))


def test_an_interrupted_trial_keeps_the_rungs_it_has_passed(tmp_path):
    study = lines_study(name="asha", first_rung=0.25, eta=3)
    before = Simulated(tmp_path / "study", study, line)
    before.run(3)
    proposal = before.ask()
    assert not before.advance(proposal, until=25)
    after = Simulated(tmp_path / "study", study, line)
    assert after.ask() == proposal
    assert not after.search.report(proposal.number, 25, line(proposal.params, 25))  # a run that goes on tells it again
    assert not after.search.report(proposal.number, 50, 0.0)
    assert after.search.report(proposal.number, 75, 0.0)


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_run_whose_stop_was_lost_is_stopped_by_the_next_start(tmp_path, is_heard):
    """Its process died before it wrote its result; or even before the driver had decided."""
    study = lines_study(name="asha", first_rung=0.25, eta=3)
    before = Simulated(tmp_path / "study", study, line)
    before.run(2)
    proposal = before.ask()
    assert before.advance(proposal, until=25)
    if not is_heard:
        kept = [text for text in before.folder.journal.read_text().splitlines() if '"stop_asked"' not in text]
        before.folder.journal.write_text("\n".join(kept) + "\n")
    after = Simulated(tmp_path / "study", study, line)
    assert after.ask() == proposal
    assert after.search.report(proposal.number, 25, line(proposal.params, 25))


def test_a_run_that_begins_anew_is_not_asked_to_stop_by_its_past(tmp_path):
    simulated = Simulated(tmp_path / "study", lines_study(name="asha", first_rung=0.25, eta=3), line)
    simulated.run(2)
    proposal = simulated.ask()
    assert simulated.advance(proposal)
    trial = simulated.folder.trial(fingerprint_of(proposal.params))
    trial.metrics.unlink()
    simulated.folder.append({"event": "trial_retried", "fingerprint": trial.fingerprint, "number": proposal.number})
    after = Simulated(tmp_path / "study", simulated.study, line)
    assert after.ask() == proposal
    assert not after.search.report(proposal.number, 25, 0.99)


def test_reports_that_pass_several_rungs_are_resumed_with_those_that_were_entered(tmp_path):
    """Rungs at 10, 20, 40 and 80 steps, reports every 50: a run that is stopped at 10 never enters 20."""
    study = lines_study(name="asha", first_rung=0.1, eta=2)
    whole = Simulated(tmp_path / "whole", study, line, every=50)
    whole.run()
    for _ in range(3):
        parts = Simulated(tmp_path / "parts", study, line, every=50)
        parts.run(3)
    assert ended_at(parts) == ended_at(whole)


def test_a_step_reported_again_after_a_resume_counts_once(tmp_path):
    before = Simulated(tmp_path / "study", make_study())
    proposal = before.ask()
    before.advance(proposal, until=50)
    after = Simulated(tmp_path / "study", make_study())
    after.ask()
    assert not after.search.report(0, 50, before.score(proposal.params, 50))
    assert sorted(after.optuna_trials()[0].intermediate_values) == [25, 50]


def test_a_run_that_was_asked_to_stop_is_asked_again(tmp_path):
    simulated = Simulated(tmp_path / "study", lines_study(name="asha", first_rung=0.25, eta=3), line)
    simulated.run(2)
    proposal = simulated.ask()
    assert simulated.search.report(proposal.number, 25, 0.01)
    assert simulated.search.report(proposal.number, 50, 0.99)


def test_a_run_at_its_last_step_is_complete(tmp_path):
    simulated = Simulated(tmp_path / "study", lines_study(name="asha", first_rung=1, eta=3), line)
    assert [STEPS] * len(simulated.run()) == ended_at(simulated)
