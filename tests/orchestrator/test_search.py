"""The search proposes, stops and remembers as the study folder tells it."""

from __future__ import annotations

import json
import math

import pytest
from optuna.trial import TrialState

from orchestrator.results import load_trials
from tests.orchestrator.simulated import STEPS, Simulated, make_study

CHOICES = {"optim.schedule": {"choice": ["poly", "cosine"]}, "train.batch_size": {"quantized": [4, 12, 4]}}
CONDITIONAL = {
    "optim.warmup_steps": {"int": [1, 50], "when": {"optim.schedule": ["cosine"]}},
    "optim.schedule": {"choice": ["poly", "cosine"]},
    "optim.power": {"uniform": [0.5, 1.5], "when": {"optim.schedule": ["poly"]}},
}
NONE = {"name": "none"}


def steps_and_batch(params, step):
    return (params["train.batch_size"] - params["optim.warmup_steps"] ** 2) * step / STEPS


def points(proposals) -> list[str]:
    return [json.dumps(proposal.params, sort_keys=True) for proposal in proposals]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random"])
def test_each_sampler_proposes_points_of_the_space_and_resumed_nothing_that_was_run(tmp_path, sampler):
    study = make_study(search={"sampler": sampler, "trials": 7}, scheduler=NONE)
    done = Simulated(tmp_path / "study", study).run(5) + Simulated(tmp_path / "study", study).run()
    assert [proposal.number for proposal in done] == list(range(7))
    assert len(set(points(done))) == 7
    assert all(1e-3 <= p.params["optim.lr"] <= 1 and 0 <= p.params["augment.flip"] <= 1 for p in done)


def test_a_resumed_sequence_goes_on_where_it_was(tmp_path):
    study = make_study(search={"sampler": "qmc"}, scheduler=NONE)
    whole = Simulated(tmp_path / "whole", study).run()
    first = Simulated(tmp_path / "parts", study).run(5)
    rest = Simulated(tmp_path / "parts", study).run()
    assert points(first + rest) == points(whole)


def test_a_finished_search_proposes_nothing_until_it_gets_more_trials(tmp_path):
    Simulated(tmp_path / "study", make_study()).run()
    assert Simulated(tmp_path / "study", make_study()).ask() is None
    assert len(Simulated(tmp_path / "study", make_study(search={"trials": 10})).run()) == 2


def test_a_grid_is_enumerated_exactly(tmp_path):
    study = make_study(CHOICES, search={"sampler": "grid", "trials": 50}, scheduler=NONE)
    done = Simulated(tmp_path / "study", study).run(3) + Simulated(tmp_path / "study", study).run()
    expected = [{"optim.schedule": s, "train.batch_size": b} for s in ("poly", "cosine") for b in (4, 8, 12)]
    assert [proposal.params for proposal in done] == expected


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random"])
def test_a_small_space_is_exhausted_and_no_point_is_run_twice(tmp_path, sampler):
    study = make_study(CHOICES, search={"sampler": sampler, "trials": 50}, scheduler=NONE)
    simulated = Simulated(tmp_path / "study", study)
    assert len(set(points(simulated.run()))) == 6
    assert simulated.ask() is None


def test_repeats_change_nothing_of_what_a_resumed_search_proposes(tmp_path):
    """36 points of which 24 are asked for: the sampler repeats itself often, and only one start knows how often."""
    space = {"train.batch_size": {"quantized": [4, 24, 4]}, "optim.warmup_steps": {"int": [1, 6]}}
    study = make_study(space, search={"sampler": "tpe", "trials": 24}, scheduler=NONE)
    whole = Simulated(tmp_path / "whole", study, steps_and_batch)
    parts = [Simulated(tmp_path / "parts", study, steps_and_batch).run(8) for _ in range(3)]
    assert [point for part in parts for point in points(part)] == points(whole.run())
    assert len(whole.optuna_trials()) > 24


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_parameter_exists_only_while_its_condition_holds(tmp_path, sampler):
    done = Simulated(tmp_path / "study", make_study(CONDITIONAL, search={"sampler": sampler}, scheduler=NONE)).run()
    other = {"poly": "optim.power", "cosine": "optim.warmup_steps"}
    assert {frozenset(p.params) for p in done} == {frozenset({"optim.schedule", name}) for name in other.values()}
    assert all(other[p.params["optim.schedule"]] in p.params for p in done)


def test_a_choice_may_be_a_list(tmp_path):
    study = make_study({"augment.crop": {"choice": [[32, 32], [64, 64]]}}, search={"sampler": "random"}, scheduler=NONE)
    done = Simulated(tmp_path / "study", study).run() + Simulated(tmp_path / "study", study).run()
    assert sorted(proposal.params["augment.crop"] for proposal in done) == [[32, 32], [64, 64]]


def test_quantized_values_are_decimals(tmp_path):
    study = make_study({"augment.flip": {"quantized": [0.1, 0.5, 0.1]}}, search={"sampler": "random"}, scheduler=NONE)
    assert {p.params["augment.flip"] for p in Simulated(tmp_path / "study", study).run()} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_start_points_come_first_and_once(tmp_path):
    start = [{"optim.lr": 0.25, "augment.flip": 1}, {"optim.lr": 0.5}]
    study = make_study(search={"start_from": start})
    first = Simulated(tmp_path / "study", study).run(2)
    rest = Simulated(tmp_path / "study", study).run()
    assert first[0].params == {"optim.lr": 0.25, "augment.flip": 1.0}
    assert [p.params["optim.lr"] for p in first] == [0.25, 0.5]
    assert not {0.25, 0.5} & {p.params["optim.lr"] for p in rest}


def test_interrupted_trials_are_handed_out_again_first_with_number_and_params(tmp_path):
    before = Simulated(tmp_path / "study", make_study())
    before.run(2)
    interrupted = [before.ask(), before.ask()]
    before.advance(interrupted[0], until=25)
    after = Simulated(tmp_path / "study", make_study())
    assert [after.ask(), after.ask()] == interrupted
    assert after.ask().number == 4


def test_no_trial_is_left_running_after_a_restart(tmp_path):
    before = Simulated(tmp_path / "study", make_study())
    before.run(2)
    before.ask()
    states = [trial.state for trial in Simulated(tmp_path / "study", make_study()).optuna_trials()]
    assert states.count(TrialState.RUNNING) == 0
    assert states.count(TrialState.WAITING) == 1


def test_the_result_of_the_resumed_trial_is_the_one_that_counts(tmp_path):
    before = Simulated(tmp_path / "study", make_study(scheduler=NONE))
    proposal = before.ask()
    before.advance(proposal, until=50)
    after = Simulated(tmp_path / "study", make_study(scheduler=NONE))
    assert after.ask() == proposal
    after.advance(proposal, start=50)
    after.end(proposal, "complete")
    (trial,) = after.optuna_trials()
    assert sorted(trial.intermediate_values) == [25, 50, 75, 100]


def test_what_is_not_finite_fails_and_never_reaches_optuna(tmp_path):
    simulated = Simulated(tmp_path / "study", make_study(), score=lambda params, step: math.nan)
    proposal = simulated.ask()
    assert simulated.advance(proposal)
    simulated.end(proposal, "stopped")
    for trial in (simulated.optuna_trials()[0], Simulated(tmp_path / "study", make_study()).optuna_trials()[0]):
        assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.FAIL, None, {})


def test_a_failed_trial_is_failed_also_after_good_reports(tmp_path):
    simulated = Simulated(tmp_path / "study", make_study())
    proposal = simulated.ask()
    simulated.advance(proposal, until=50)
    simulated.end(proposal, "failed")
    for trial in (simulated.optuna_trials()[0], Simulated(tmp_path / "study", make_study()).optuna_trials()[0]):
        assert (trial.state, trial.value) == (TrialState.FAIL, None)


def test_a_stopped_trial_is_pruned_with_its_last_value(tmp_path):
    simulated = Simulated(tmp_path / "study", make_study())
    proposal = simulated.ask()
    simulated.advance(proposal, until=50)
    simulated.end(proposal, "stopped")
    for trial in (simulated.optuna_trials()[0], Simulated(tmp_path / "study", make_study()).optuna_trials()[0]):
        last = simulated.score(proposal.params, 50)
        assert (trial.state, trial.value) == (TrialState.PRUNED, pytest.approx(last, abs=0))


def test_a_trial_that_has_not_ended_is_refused(tmp_path):
    simulated = Simulated(tmp_path / "study", make_study())
    proposal = simulated.ask()
    simulated.advance(proposal, until=50)
    with pytest.raises(ValueError, match="trial 0 is running"):
        simulated.search.tell(0, load_trials(simulated.folder)[0])


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_several_objectives_are_told_as_they_are(tmp_path, sampler):
    goals = [{"metric": "val/miou"}, {"metric": "time/seconds", "mode": "min"}]
    study = make_study(objective=goals, search={"sampler": sampler, "trials": 5}, scheduler=NONE)
    Simulated(tmp_path / "study", study).run(4)
    after = Simulated(tmp_path / "study", study)
    after.run()
    assert [trial.values[1] for trial in after.optuna_trials()] == [10.0] * 5


def test_a_lock_left_by_a_killed_driver_is_no_obstacle(tmp_path):
    simulated = Simulated(tmp_path / "study", make_study())
    simulated.run(1)
    lock = simulated.folder.optuna_journal.with_name("optuna.journal.lock")
    lock.symlink_to(simulated.folder.optuna_journal)
    assert Simulated(tmp_path / "study", make_study()).run(1)[0].number == 1


def test_equal_seeds_give_equal_searches(tmp_path):
    studies = [make_study(search={"seed": seed, "trials": 5}) for seed in (0, 0, 1)]
    one, same, other = (points(Simulated(tmp_path / str(i), study).run()) for i, study in enumerate(studies))
    assert one == same != other
