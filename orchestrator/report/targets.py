"""How right what is taught is, beside what the student predicts anyway: over the second half of training, when ramps
are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.report.wording import listed
from orchestrator.stats import estimate

BELOW = 0.01
"""How much worse than the plain prediction a target must be to be told: smaller gaps come and go."""
MOST_NAMED = 6


@dataclass(frozen=True)
class Rightness:
    """Shares of pixels that are right."""

    target: float
    """Of the target, before unsure pixels are dropped."""
    plain: float
    """Of the student's plain prediction."""
    kept: float | None
    """Of the pixels that are taught; None if there are none."""

    @property
    def is_below(self) -> bool:
        return self.target < self.plain - BELOW

    @property
    def harms(self) -> bool:
        """Dropping unsure pixels doesn't mend it."""
        return self.is_below and self.kept is not None and self.kept < self.plain

    @property
    def words(self) -> str:
        taught = "nothing is taught" if self.kept is None else f"{100 * self.kept:.1f} % of what is taught"
        return f"{100 * self.target:.1f} against {100 * self.plain:.1f} %; {taught}"


def rightness(row: Mapping[str, Any]) -> Rightness | None:
    """At one evaluation; None without telemetry."""
    target, plain = row.get("pseudo/target_accuracy"), row.get("pseudo/plain_accuracy")
    return None if target is None or plain is None else Rightness(target, plain, row.get("pseudo/precision"))


def late(rows: Iterable[Mapping[str, Any]], steps: int) -> Rightness | None:
    """Of a run, means over the second half of its own steps."""
    return mean_of(rightness(row) for row in rows if row["step"] > steps / 2)


def mean_of(found: Iterable[Rightness | None]) -> Rightness | None:
    """Of several evaluations, or runs; None if nothing is known."""
    known = [each for each in found if each is not None]
    target, plain = estimate([each.target for each in known]), estimate([each.plain for each in known])
    kept = estimate([each.kept for each in known if each.kept is not None])
    return None if target is None or plain is None else Rightness(target.mean, plain.mean, kept and kept.mean)


def sentences(found: Mapping[str, Rightness | None]) -> list[str]:
    """Of runs or cells by name, whose targets are worse than the plain prediction: those it harms, and the others."""
    below = {name: each for name, each in found.items() if each is not None and each.is_below}
    harmed = [f"{name} ({each.words})" for name, each in below.items() if each.harms]
    mended = [f"{name} ({each.words})" for name, each in below.items() if not each.harms]
    said = []
    if harmed:
        said.append(
            f"The term harms in {_few(harmed)}: in the second half of training, what it teaches is right on fewer "
            "pixels than the student's plain prediction, also once unsure ones are dropped."
        )
    if mended:
        said.append(
            "Before unsure pixels are dropped, the target is right on fewer pixels than the student's plain prediction "
            f"in {_few(mended)}, in the second half of training. What is taught after that is right more often."
        )
    return said


def _few(named: list[str]) -> str:
    left = len(named) - MOST_NAMED
    return listed([*named[:MOST_NAMED], *([f"{left} more"] if left > 0 else [])])
