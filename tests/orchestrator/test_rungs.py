"""How soon ranks show, and whom successive halving would have stopped: against hand-made curves and Optuna itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest

from guidedmix_core import ConfigError
from orchestrator.folder import StudyFolder
from orchestrator.rungs import CHANCE, Curve, Report, agreements, replay, replays, stops
from orchestrator.stored_curves import stored_curves
from orchestrator.study import SchedulerSettings
from tests.orchestrator.ablation_folder import SCORES, add_stages, write_ablation
from tests.orchestrator.simulated import Simulated, make_study
from tests.orchestrator.study_folder import write_study

STEPS, EVERY = 100, 25


def curve(name: str, values: Sequence[float], clock: str = "0") -> Curve:
    """Evaluated every 25 steps. Of equal clocks the runs come one after another."""
    return Curve(name, tuple(Report(clock, EVERY * (i + 1), value) for i, value in enumerate(values)))


def asha(first_rung: float = 0.25, eta: int = 3) -> SchedulerSettings:
    return SchedulerSettings(first_rung=first_rung, eta=eta)


def test_rank_agreement_is_that_of_the_textbook() -> None:
    starts, ends = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]  # two swapped pairs: rho 1 - 6*4/120, tau (8 - 2)/10
    curves = [curve(str(i), [start, end]) for i, (start, end) in enumerate(zip(starts, ends, strict=True))]
    (found,) = agreements(curves)
    assert (found.step, found.place) == (25, 1)
    assert found.spearman == pytest.approx(0.8)
    assert found.kendall == pytest.approx(0.6)
    assert found.interval is None


def test_ties_take_mean_ranks() -> None:
    curves = [curve(str(i), values) for i, values in enumerate([(1, 1), (1, 2), (2, 3), (3, 4)])]
    (found,) = agreements(curves)
    assert found.spearman == pytest.approx(4.5 / np.sqrt(4.5 * 5))  # ranks 1.5 1.5 3 4 against 1 2 3 4
    assert found.kendall == pytest.approx(5 / np.sqrt(5 * 6))


def test_a_step_at_which_all_are_equal_has_no_ranks() -> None:
    (found,) = agreements([curve(str(i), [0.5, i]) for i in range(3)])
    assert (found.spearman, found.kendall, found.place) == (None, None, 1)


def test_the_place_is_that_of_the_run_that_is_best_at_the_end() -> None:
    found = agreements([curve("late", [0.1, 0.3, 0.9]), curve("early", [0.5, 0.6, 0.7]), curve("bad", [0.2, 0.2, 0.2])])
    assert [row.place for row in found] == [3, 2]


def test_the_interval_is_that_of_bonett_and_wright() -> None:
    ends = list(range(10))
    starts = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]  # rho = 1 - 6 * 10 / 990
    (found,) = agreements([curve(str(i), [starts[i], ends[i]]) for i in range(10)])
    r = 1 - 60 / 990
    half = 1.959964 * np.sqrt((1 + r**2 / 2) / 7)
    assert found.interval == pytest.approx((np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)), abs=1e-6)


@pytest.mark.parametrize(("n", "critical"), list(CHANCE.items())[:3])
def test_chance_reaches_the_critical_value_at_most_once_in_twenty(n: int, critical: float) -> None:
    from itertools import permutations

    squares = [sum((rank - i) ** 2 for i, rank in enumerate(order)) for order in permutations(range(n))]
    rhos = np.array([1 - 6 * total / (n * (n**2 - 1)) for total in squares])
    reached = np.mean(np.abs(rhos) >= critical - 5e-4)
    assert 0.01 < reached <= 0.05


CROSSING = [
    curve("quick", [0.50, 0.55, 0.58, 0.60]),
    curve("middling", [0.40, 0.45, 0.48, 0.50]),
    curve("slow start", [0.10, 0.30, 0.60, 0.80]),
]


def test_crossing_curves_lose_their_winner_and_the_regret_is_said() -> None:
    found = replay(CROSSING, asha())
    assert found.stopped == {"middling": 25, "slow start": 25}
    assert not found.keeps_best
    assert found.best == "slow start"
    assert found.top == ("slow start", "quick", "middling")
    assert found.regret == pytest.approx(0.2)
    assert found.saved == pytest.approx(150 / 300)
    assert found.rungs == (25, 75)


def test_another_order_would_have_let_the_first_runs_pass() -> None:
    """The slow starter passes the first rung only if it comes before both others: in a third of all orders. At the next
    rung, at 75, it is ahead."""
    found = replay(CROSSING, asha())
    assert found.lost_in_orders == pytest.approx(2 / 3, abs=0.1)
    in_front = replay([CROSSING[2], *CROSSING[:2]], asha())
    assert in_front.keeps_best
    assert in_front.regret == 0


def test_runs_side_by_side_are_judged_at_the_times_of_their_reports() -> None:
    first, second = [0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.6, 0.7]
    one_by_one = [curve("a", first, "0"), curve("b", second, "1")]
    assert replay(one_by_one, asha()).stopped == {"b": 25}
    later = [curve("a", first, "1"), curve("b", second, "0")]
    assert replay(later, asha()).stopped == {"a": 75}


def test_a_tie_with_the_best_goes_on() -> None:
    assert replay([curve(str(i), [0.5, 0.5, 0.5, 0.5]) for i in range(4)], asha()).stopped == {}


def test_without_a_rung_before_the_end_nobody_is_stopped() -> None:
    found = replay(CROSSING, asha(first_rung=1))
    assert (found.rungs, found.stopped, found.saved, found.lost_in_orders) == ((), {}, 0, 0)


def test_the_grid_holds_what_is_asked_for() -> None:
    found = [(each.first_rung, each.eta) for each in replays(CROSSING, asha(first_rung=0.2, eta=5))]
    assert (0.2, 5) in found
    assert len(found) == 10


@pytest.mark.parametrize(("first_rung", "eta"), [(0.01, 2), (0.1, 3), (0.25, 2), (0.25, 4)])
def test_the_replay_stops_where_optuna_does(first_rung: float, eta: int) -> None:
    """Noisy curves with ties, evaluated every 5 steps, so that one report may enter two rungs."""
    rng = np.random.default_rng(3)
    values = np.round(rng.uniform(size=(30, 1)) + rng.normal(0, 0.3, (30, 20)), 1)
    scheduler = asha(first_rung, eta)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=scheduler.rung(STEPS, 0), reduction_factor=eta)
    study, expected = optuna.create_study(direction="maximize", pruner=pruner), {}
    for run, row in enumerate(values):
        trial = study.ask()
        for i, value in enumerate(row):
            trial.report(float(value), 5 * (i + 1))
            if 5 * (i + 1) < STEPS and trial.should_prune():
                expected[run] = 5 * (i + 1)
                break
        study.tell(trial, float(value))
    reports = [
        (run, Report("", 5 * (i + 1), float(value))) for run, row in enumerate(values) for i, value in enumerate(row)
    ]
    assert expected
    assert stops(reports, STEPS, scheduler) == expected


def test_a_replay_of_a_study_without_stopping_stops_as_the_search_would(tmp_path: Path) -> None:
    """The same points, once let run to their end and replayed, once stopped by the search itself."""
    space = {"augment.flip": {"choice": [0.5, 0.9, 0.1, 0.95, 0.2, 0.6, 1.0, 0.05, 0.7]}}

    def study(name: str):
        scheduler = {"name": name, "first_rung": 0.25, "eta": 3}
        return make_study(space, search={"sampler": "grid", "trials": 9}, scheduler=scheduler)

    searched = {}
    for name in ("none", "asha"):
        simulated = Simulated(tmp_path / name, study(name), lambda params, step: params["augment.flip"] * step)
        simulated.run()
        simulated.folder.claim({"kind": "tune", "objectives": [{"metric": "val/miou"}]}, "x")
        searched[name] = simulated.folder
    found = replay(stored_curves(searched["none"]).curves, asha())
    ends = [
        json.loads(trial.result.read_text()) | json.loads(trial.trial.read_text())
        for trial in searched["asha"].trials()
    ]
    assert found.stopped == {f"trial {end['number']}": end["step"] for end in ends if end["state"] == "stopped"}
    assert len(found.stopped) > 3


def test_of_a_search_with_stopped_trials_the_complete_ones_are_compared_and_the_others_counted(tmp_path: Path) -> None:
    found = stored_curves(StudyFolder(write_study(tmp_path / "study", panels=0)))
    assert [each.name for each in found.curves] == [f"trial {i}" for i in (0, 1, 2, 4, 5, 7, 10)]
    assert (found.stopped, found.left_out) == (3, {"failed": 1, "running": 1})


def test_of_an_ablation_a_curve_is_the_mean_of_a_cell_over_its_blocks(tmp_path: Path) -> None:
    found = stored_curves(StudyFolder(write_ablation(tmp_path / "study", panels=0)))
    assert [each.name for each in found.curves] == ["supervised", "mean_teacher", "guidedmix"]
    assert found.left_out == {"not complete in every block": 1}
    assert found.curves[0].end == pytest.approx((0.471 + 0.492 + 0.460 + 0.481) / 4)
    assert found.unit == "cell (mean of 4 blocks)"


def test_what_is_left_out_for_its_stages_is_said_to_be(tmp_path: Path) -> None:
    path = write_ablation(tmp_path / "study", panels=0, scores={**SCORES, "unstable": SCORES["guidedmix"]})
    add_stages(path, "guidedmix", [("trained", 600, 50.0)], steps=1400)
    for trial in (path / "trials").iterdir():
        if json.loads((trial / "trial.json").read_text())["cell"] == "guidedmix":
            rows = (trial / "metrics.jsonl").read_text().splitlines()[:7]
            (trial / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    reason = "of another length, stages apart: a scheduler hears of a run when its own steps begin"
    assert stored_curves(StudyFolder(path)).left_out == {reason: 1}


def test_of_a_minimized_objective_less_is_better(tmp_path: Path) -> None:
    write_study(tmp_path / "study", panels=0)
    folder = StudyFolder(tmp_path / "study")
    request = folder.request() | {"objectives": [{"metric": "train/loss", "mode": "min"}]}
    folder.claim(request, request["identity"])
    assert all(report.value < 0 for each in stored_curves(folder).curves for report in each.reports)


def test_fewer_than_three_complete_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from 3 complete trials on, 2 are complete"):
        stored_curves(StudyFolder(write_study(tmp_path / "study", trials=2, panels=0)))


def test_the_verb_says_what_is_censored_and_what_so_few_runs_can_show(call, capfd: pytest.CaptureFixture[str]) -> None:
    write_study(Path("study"), panels=0)
    assert call("guidedmix rungs study") == 0
    said = capfd.readouterr().out
    assert "3 trials were stopped early: how they would have ended is not known" in said
    assert "7 runs are too few for an interval. Without any agreement, a Spearman of ±0.79 or beyond" in said
    assert "asha with first_rung 0.25 and eta 3 (rungs at 500, 1500) would have stopped" in said
    assert "it keeps the best, trial 2" in said


def test_of_an_ablation_the_verb_says_what_its_final_values_are(call, capfd: pytest.CaptureFixture[str]) -> None:
    write_ablation(Path("cells"), panels=0)
    assert call("guidedmix rungs cells") == 0
    said = capfd.readouterr().out
    assert "each that of one cell (mean of 4 blocks): a small regret is within the noise" in said
    assert "seed" not in said


def test_the_verb_gives_json(call, capfd: pytest.CaptureFixture[str]) -> None:
    write_study(Path("study"), panels=0)
    assert call("guidedmix rungs study --json --first-rung 0.5 --eta 2") == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["curves"], found["stopped"], found["steps"]) == (7, 3, 2000)
    assert (found["asked"]["first_rung"], found["asked"]["eta"], found["asked"]["rungs"]) == (0.5, 2, [1000])
    assert len(found["agreement"]) == 9


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("guidedmix rungs nowhere", "no study here"),
        ("guidedmix rungs study --eta 1", "eta=1: expected at least 2"),
        ("guidedmix rungs study --first-rung 2", "first_rung=2.0: expected at most 1"),
    ],
)
def test_a_wrong_request_is_told(call, command: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_study(Path("study"), panels=0)
    assert call(command) == 2
    assert said in capfd.readouterr().err
