"""Who may import whom, and how large a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from tests.conftest import scope_of

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("guidedmix_core/**/*.py"), *ROOT.glob("orchestrator/**/*.py")])
OWNERS = {
    "ray": {"executors/ray_tune.py", "ray_session.py", "ray_metrics.py", "scaling.py", "jobs.py", "package.py"},
    "mlflow": {"mlflow_store.py", "mlflow_registry.py"},
    "optuna": {"search.py", "samplers.py", "executors/ray_tune.py", "importance.py", "report"},
}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_imports_point_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_logo=True) in (0, None)


@pytest.mark.parametrize("package", OWNERS)
def test_ray_optuna_and_mlflow_stay_in_the_files_that_own_them(package: str) -> None:
    users = {
        str(path.relative_to(ROOT / "orchestrator"))
        for path in SOURCES
        if any(name.partition(".")[0] == package for name in imported(path))
    }
    assert {user for user in users if not any(user.startswith(owner) for owner in OWNERS[package])} == set()


def test_the_orchestrator_enters_the_core_by_its_front_door() -> None:
    inside = {
        str(path.relative_to(ROOT)): sorted(name for name in imported(path) if name.startswith("guidedmix_core."))
        for path in SOURCES
        if path.is_relative_to(ROOT / "orchestrator")
    }
    assert {path: found for path, found in inside.items() if found} == {}


def test_tests_that_start_a_ray_stay_in_one_process() -> None:
    starts = re.compile(r"ray_tune\.run\(|ray_session\.cluster\(|Cluster\(initialize_head")
    users = {path.relative_to(ROOT) for path in ROOT.glob("tests/**/test_*.py") if starts.search(path.read_text())}
    assert len(users) > 1
    assert {scope_of(f"{user}::test_x[a]") for user in users} == {"ray"}
    assert scope_of("tests/core/test_a.py::test_x") != scope_of("tests/core/test_b.py::test_x")


def test_no_file_says_more_than_300_lines() -> None:
    assert {
        str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 300
    } == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 80
    }
    assert long == set()


def test_the_core_alone_imports_neither_ray_nor_optuna_nor_mlflow() -> None:
    code = "import sys, guidedmix_core; print(sorted({'ray', 'optuna', 'mlflow', 'orchestrator'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_help_is_printed_without_importing_torch() -> None:
    code = "import sys, orchestrator.cli; print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
