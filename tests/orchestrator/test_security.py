"""What others wrote (YAML, checkpoints, lists, names) is data: it runs nothing, and stays where it belongs."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
import yaml
from PIL import Image

from guidedmix_core import Checkpoints, ConfigError, Panel, fingerprint, parse, read_yaml
from guidedmix_core.datasets import Record
from guidedmix_core.lists import Names
from guidedmix_core.sources import _Loader
from orchestrator import folder as study_files
from orchestrator import mlflow_ui, protocol, ray_session, trial
from orchestrator.folder import StudyFolder, TrialFolder
from tests.runs import SMALL, small_run

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("guidedmix_core/**/*.py"), *ROOT.glob("orchestrator/**/*.py")])
SAFE_LOADERS = {"_Loader": _Loader, "YAML_LOADER": study_files.YAML_LOADER, "_LOADER": protocol._LOADER}
CODE = "!!python/object/apply:os.mkdir [ran]"
HOSTILE = "<script>alert(1)<script> & a_b [red] $x^{"
"""A cell may have no slash and no bar in its name; a class may."""


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Each call in our sources of a function that is spelled so, and where it stands."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_yaml_is_read_by_a_safe_loader() -> None:
    unsafe = {"yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.full_load_all", "yaml.unsafe_load_all"}
    assert [place for place, _ in calls(unsafe)] == []
    loaders = {place: ast.unparse(call.args[1]) for place, call in calls({"yaml.load"})}
    assert {place: name for place, name in loaders.items() if name not in SAFE_LOADERS} == {}
    safe = (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert [name for name, loader in SAFE_LOADERS.items() if not issubclass(loader, safe)] == []


def test_nothing_is_read_that_can_run_code() -> None:
    found = [place for place, call in calls({"torch.load"}) if not _has(call, "weights_only", True)]
    found += [place for place, call in calls({"np.load", "numpy.load"}) if _has(call, "allow_pickle", True)]
    found += [place for place, _ in calls({"pickle.load", "pickle.loads", "eval", "exec", "os.system", "os.popen"})]
    assert found == []


def test_no_archive_is_unpacked_and_no_shell_is_started() -> None:
    names = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call"}
    found = [place for place, call in calls(names) if _has(call, "shell", True)]
    found += [place for place, _ in calls({"shutil.unpack_archive", "tarfile.open", "ZipFile", "zipfile.ZipFile"})]
    assert found == []


def test_a_yaml_that_asks_for_an_object_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"run.yaml:1: not readable as YAML: could not determine a constructor"):
        parse(f"seed: {CODE}", "run.yaml")
    Path("cluster.yaml").write_text(f"kind: {CODE}")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        read_yaml(Path("cluster.yaml"))
    Path("study.yaml").write_text(f"identity: {CODE}")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        StudyFolder(tmp_path).request()
    assert not Path("ran").exists()


class Evil:
    """Makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture
def evil(call) -> Path:
    """A checkpoint that would run code, and a run beside it."""
    Path("small.yaml").write_text(yaml.safe_dump(SMALL))
    torch.save({"version": 1, "config": {}, "step": 1, "nets": Evil()}, path := Path("evil.pt"))
    return path


def test_a_checkpoint_with_code_in_it_is_refused_by_every_verb(call, evil: Path, capfd) -> None:
    trained = StudyFolder("study").trial(fingerprint(small_run()))
    checkpoints = Checkpoints(trained.checkpoint)
    checkpoints.folder.mkdir(parents=True)
    checkpoints.last.write_bytes(evil.read_bytes())
    Image.new("RGB", (8, 8)).save("image.png")
    for command in ("evaluate evil.pt", "predict evil.pt image.png -o out", "train small.yaml --study study"):
        code = call(f"guidedmix {command}")
        said = capfd.readouterr()
        assert code in (1, 2)
        assert "holds more than numbers and names, such as code, which is never run" in said.out + said.err
    assert not Path("ran").exists()


def test_a_ray_of_ours_has_no_dashboard_and_mlflows_pages_stay_on_this_machine(monkeypatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    ray_session._start_ray_here()
    assert [options["include_dashboard"] for options in asked] == [False]
    assert mlflow_ui.HOST == "127.0.0.1"


def test_a_list_of_images_reaches_no_file_outside_the_data_set(tmp_path: Path) -> None:
    names = Names([Record("a", tmp_path / "a.png", None)])
    with pytest.raises(ConfigError, match=r"1 of 1 lines name no image \(\.\./\.\./etc/passwd\)"):
        names.find_all(["../../etc/passwd"], "train.txt")
    assert [record.image for record in names.find_all(["../../a"], "train.txt")] == [tmp_path / "a.png"]


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "a/../../outside"])
def test_pictures_of_an_image_stay_in_their_run_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    folder = TrialFolder(tmp_path / "studies" / "trials" / "run")
    folder.panels.mkdir(parents=True)
    mask = np.zeros((4, 4), dtype=np.uint8)
    panel = Panel(name, np.zeros((4, 4, 3), dtype=np.uint8), mask, mask)
    result = SimpleNamespace(ids=[name], counts=np.zeros((1, 3, 2)), panels=[panel])
    trial._write_images(small_run(), folder, result)  # pyright: ignore[reportArgumentType]
    written = [file.parent for file in tmp_path.rglob("*.png")]
    assert written == [folder.panels] * 3


@pytest.fixture
def hostile(call) -> str:
    """A study whose images, classes and cells have names that every page and table must spell out."""
    for part, number in (("train", 6), ("val", 2)):
        for kind, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
            (folder := Path("data", kind, part)).mkdir(parents=True)
            for i in range(number):
                pixels = np.random.default_rng(i).integers(0, 2, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"<img src=x> & {i}.png")
    data = {"name": "folder", "root": "data", "class_names": ["back", f"{HOSTILE} [/red]</script>|"], "size": [32, 32]}
    Path("small.yaml").write_text(yaml.safe_dump({**SMALL, "data": data, "split": {"labeled": 4}}))
    request = {"base": "small.yaml", "reference": HOSTILE, "cells": {HOSTILE: {}, "slow": {"optim.lr": 1e-5}}}
    Path("names.yaml").write_text(yaml.safe_dump({**request, "blocks": {"seed": [0, 1]}}))
    assert call("guidedmix ablate names.yaml --executor inline --study study") == 0
    return "study"


def test_names_are_spelled_out_wherever_they_are_shown(call, hostile: str, capfd) -> None:
    html = Path(hostile, "report.html").read_text()
    assert "<script" not in html
    assert "<img src=x>" not in html
    assert "&lt;script&gt;alert(1)&lt;script&gt;" in html
    exports = Path(hostile, "report")
    assert "<script" not in "".join((exports / name).read_text() for name in ("report.md", "forest.svg", "curves.svg"))
    assert r"a\_b {[}red] \$x\textasciicircum{}\{" in (exports / "table.tex").read_text()
    assert r"a\_b \[red\]" in (exports / "report.md").read_text()
    capfd.readouterr()
    checkpoint = next(Path(hostile).glob("trials/*/checkpoint/best.pt"))
    assert call(f"guidedmix evaluate {checkpoint}") == 0
    assert "a_b [red] $x^{ [/red]</script>|" in capfd.readouterr().out


def test_the_terminal_takes_names_as_they_are() -> None:
    assert [place for place, call in calls({"Console"}) if not _has(call, "markup", False)] == []


def _has(call: ast.Call, name: str, value: object) -> bool:
    return any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value == value
        for word in call.keywords
    )
