"""Every command of the walkthrough works as written, in its order."""

from __future__ import annotations

import glob
import re
import shlex
from pathlib import Path

import pytest

from orchestrator import cli

WALKTHROUGH = Path(__file__).parents[2] / "docs" / "walkthrough.md"
BLOCKS = re.findall(r"^```\n(.*?)^```", WALKTHROUGH.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("guidedmix ")]


def call(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    """The exit code of a command line, with a shell's wildcards, in this process."""
    words = shlex.split(command, comments=True)
    expanded = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    monkeypatch.setattr("sys.argv", expanded)
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_the_walkthrough_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        expected = 2 if command.endswith("# exits with 2") else 0
        assert call(monkeypatch, command) == expected, f"{command}\n{capfd.readouterr().err}"
    assert len(COMMANDS) == 11
    assert (tmp_path / "studies/small/report.html").exists()
    assert len(list((tmp_path / "predictions").glob("*_overlay.jpg"))) > 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("guidedmix train base/nothing", "no base 'base/nothing'"),
        ("guidedmix train base/shapes method.name=guidedmx", "did you mean 'guidedmix'?"),
        ("guidedmix train base/shapes train.steps=many", 'train.steps="many": expected an integer'),
        ("guidedmix train base/shapes data.name=camvid data.root=nowhere", "nowhere"),
        ("guidedmix tune search/demo 'parameters.optim.lr={uniform: [1, 0]}'", "optim.lr"),
        ("guidedmix tune search/demo tracking.mlflow=http://127.0.0.1:1 --executor inline", "127.0.0.1:1"),
        ("guidedmix evaluate nothing.pt", "nothing.pt: no such checkpoint"),
        ("guidedmix report nowhere", "no study here"),
        ("guidedmix ui nowhere", "nowhere"),
    ],
)
def test_a_wrong_request_exits_with_2_and_says_what_is_wrong(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert call(monkeypatch, command) == 2
    assert said in capfd.readouterr().err
