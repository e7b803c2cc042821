"""The signs that a cell carries wherever its name stands without columns for them: runs failed, or memory ran out."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.comparison import Cell

FAILED = "✗"
ADJUSTED = "†"


def signs(cell: Cell) -> str:
    """`✗2†`; empty if every run was made as it was asked for."""
    return (f"{FAILED}{cell.failed}" if cell.failed else "") + (ADJUSTED if cell.adjusted else "")


def marked(cell: Cell, most: int | None = None) -> str:
    """The cell's name, of at most so many letters, with its signs: `unstable ✗2`."""
    return f"{cell.name if most is None else cut(cell.name, most)} {signs(cell)}".rstrip()


def cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def meaning(cells: Iterable[Cell]) -> str:
    """Of the signs that some of these cells have."""
    seen = "".join(map(signs, cells))
    said = [f"{FAILED}: so many runs of the cell failed, its numbers are those of the others"] * (FAILED in seen)
    said += [f"{ADJUSTED}: runs of the cell were made in smaller micro-batches, as memory ran out"] * (ADJUSTED in seen)
    return f"{'; '.join(said)}." if said else ""
