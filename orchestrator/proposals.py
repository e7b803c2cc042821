"""What a study runs next: the contract between the driver and a search, or the cells of an ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from orchestrator.results import TrialRecord


@dataclass(frozen=True)
class Proposal:
    """The number of a trial, and its parameters: dotted path to value. A cell of an ablation also has its names, and a
    trial of a reference's own search that of the reference as its cell."""

    number: int
    params: dict[str, Any]
    label: str | None = None
    cell: str | None = None
    block: int | None = None


class Source(Protocol):
    """Made anew from the folder at each start. The caller journals each proposal as `asked` before its run begins."""

    def ask(self) -> Proposal | None:
        """The next run, one that was interrupted first; None if none can begin now."""
        ...

    @property
    def waits(self) -> bool:
        """Whether there is a run that can't begin before one that is out has gone on or ended."""
        ...

    def report(self, number: int, step: int, value: float) -> bool:
        """Whether the run should stop here."""
        ...

    def tell(self, number: int, record: TrialRecord) -> None:
        """The end of a run that was handed out."""
        ...
