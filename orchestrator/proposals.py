"""What a study runs next: the contract between the driver and a search, or the cells of an ablation; and the job that
the driver makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from guidedmix_core import RunConfig
from orchestrator.folder import TrialFolder

if TYPE_CHECKING:
    from orchestrator.results import Role, TrialRecord


@dataclass(frozen=True)
class Proposal:
    """The number of a trial, and its parameters: dotted path to value. A cell of an ablation also has its names, and a
    trial of a reference's own search that of the reference as its cell."""

    number: int
    params: dict[str, Any]
    label: str | None = None
    cell: str | None = None
    block: int | None = None


@dataclass(frozen=True)
class Job:
    """One run to be made: what the study calls it, its configuration, its place."""

    number: int
    role: Role
    label: str | None
    params: dict[str, Any]
    config: RunConfig
    folder: TrialFolder
    cell: str | None = None
    block: int | None = None

    @property
    def fingerprint(self) -> str:
        return self.folder.fingerprint


class Source(Protocol):
    """Made anew from the folder at each start. The caller journals each proposal as `asked` before its run begins."""

    def ask(self) -> Proposal | None:
        """The next run, one that was interrupted first; None if none can begin now."""
        ...

    def report(self, number: int, step: int, value: float) -> bool:
        """Whether the run should stop here."""
        ...

    def tell(self, number: int, record: TrialRecord) -> None:
        """The end of a run that was handed out."""
        ...
