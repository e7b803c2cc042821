"""A driver whose runs are formulas: it writes the journal and the records a real one writes, and trains nothing."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from guidedmix_core import Tree, build
from orchestrator.folder import StudyFolder, append_line, write_json
from orchestrator.results import load_trial
from orchestrator.search import Proposal, Search
from orchestrator.study import SearchStudy

STEPS = 100
SPACE = {"optim.lr": {"log": [1e-3, 1.0]}, "augment.flip": {"uniform": [0, 1]}}
Score = Callable[[Mapping[str, Any], int], float]


def make_study(parameters: Mapping[str, Any] = SPACE, **sections: Any) -> SearchStudy:
    """A study of these parameters. `search` may leave out the number of trials: 8."""
    search = {"trials": 8, "startup_trials": 3, **sections.pop("search", {})}
    return build(Tree({"base": "small", "parameters": dict(parameters), "search": search, **sections}, {}), SearchStudy)


def hill(params: Mapping[str, Any], step: int) -> float:
    """Best at lr 0.03 and flip 0.5; it grows with the steps."""
    lr, flip = params.get("optim.lr", 0.03), params.get("augment.flip", 0.5)
    return (1 - (math.log10(lr) + 1.5) ** 2 / 4 - (flip - 0.5) ** 2) * step / STEPS


class Simulated:
    """A study in a folder. Each `Simulated` of the same folder is one more start."""

    def __init__(self, path: Path, study: SearchStudy, score: Score = hill, every: int = 25) -> None:
        self.study, self.score, self.every = study, score, every
        self.folder = StudyFolder(path)
        self.folder.path.mkdir(exist_ok=True)
        self.search = Search(study, self.folder, STEPS)

    def ask(self) -> Proposal | None:
        proposal = self.search.ask()
        if proposal is not None:
            names = {
                "number": proposal.number,
                "params": proposal.params,
                "fingerprint": fingerprint_of(proposal.params),
            }
            self.folder.append({"event": "asked", "role": "trial", **names})
            write_json(
                self.folder.trial(names["fingerprint"]).trial,
                {**names, "role": "trial", "label": None, "seed": 0, "steps": STEPS},
            )
        return proposal

    def advance(self, proposal: Proposal, start: int = 0, until: int = STEPS) -> bool:
        """Report up to a step, as a run that is then interrupted. True: it was asked to stop."""
        trial = self.folder.trial(fingerprint_of(proposal.params))
        for step in range(start + self.every, until + 1, self.every):
            value = self.score(proposal.params, step)
            append_line(trial.metrics, {"step": step, "time": "now", "val/miou": value, "time/seconds": step / 10})
            if self.search.report(proposal.number, step, value):
                return True
        return False

    def end(self, proposal: Proposal, state: str) -> None:
        trial = self.folder.trial(fingerprint_of(proposal.params))
        row = json.loads(trial.metrics.read_text().splitlines()[-1])
        metrics = {key: value for key, value in row.items() if key not in ("step", "time")}
        result = {
            "state": state,
            "objective": metrics["val/miou"],
            "step": row["step"],
            "steps": STEPS,
            "metrics": metrics,
        }
        rest = {"seconds": 1.0, "best": None, "failure": None, "started": "now", "ended": "now"}
        write_json(trial.result, {"fingerprint": trial.fingerprint, **result, **rest})
        self.search.tell(proposal.number, load_trial(trial))

    def run(self, trials: int = 1000) -> list[Proposal]:
        """Ask for so many trials and run each to its end."""
        done = []
        while len(done) < trials and (proposal := self.ask()) is not None:
            self.end(proposal, "stopped" if self.advance(proposal) else "complete")
            done.append(proposal)
        return done

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        """As anyone else reads Optuna's file."""
        storage = JournalStorage(JournalFileBackend(str(self.folder.optuna_journal)))
        return optuna.load_study(study_name=self.folder.name, storage=storage).trials


def fingerprint_of(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
