"""`guidedmix show`, `check`, `list`: what they print, and what they say of a name that is none."""

from __future__ import annotations

import pytest

from orchestrator.unlike import unlike_requests


def test_show_breaks_no_path_and_names_files_by_their_place_in_search_spaces(
    call, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert call("guidedmix show base/guidedmix optim.lr=0.125") == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["method.pairing.alignment_weight", "0.1", "default"] in rows
    assert ["optim.lr", "0.125", "command", "line"] in rows
    assert next(row for row in rows if row[0] == "method.name")[2].startswith("base/guidedmix.yaml:")


def test_of_a_name_that_is_none_only_its_own_kind_is_listed(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix show base/guidedmx") == 2
    said = capfd.readouterr().err
    assert "no base 'base/guidedmx'; did you mean 'guidedmix'? available: " in said
    assert "supervised" in said
    assert "ablation/" not in said
    assert "guidedmix_components" not in said


def test_a_name_that_is_like_no_other_has_no_suggestion(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix show base/nope") == 2
    assert "did you mean" not in capfd.readouterr().err


def test_check_takes_a_name_of_any_kind(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix check guidedmix_component") == 2
    said = capfd.readouterr().err
    assert "no run, search or ablation 'guidedmix_component'; did you mean 'guidedmix_components'?" in said


def test_a_family_that_is_none_is_told_the_nearest(call, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("guidedmix list method") == 2
    assert "no family 'method'; did you mean 'methods'? available: ablations, " in capfd.readouterr().err


def test_the_first_differences_of_two_studies_are_named() -> None:
    made = {"kind": "tune", "run": {"seed": 0, "optim": {"lr": 0.1, "name": "sgd"}}, "search": {"trials": 3, "seed": 0}}
    asked = {**made, "run": {"seed": 0, "optim": {"lr": 0.2, "name": "sgd"}}, "search": {"trials": 9, "seed": 1}}
    assert unlike_requests(made, asked) == "run.optim.lr is 0.1 there and 0.2 here; search.seed is 0 there and 1 here"
    assert unlike_requests(made, {**made, "planned": 3}) == ""
    many = {**made, "run": {"seed": 1, "optim": {"lr": 0.2, "name": "adamw", "nesterov": False}}}
    assert unlike_requests(made, many).endswith('optim.name is "sgd" there and "adamw" here; 1 more')
