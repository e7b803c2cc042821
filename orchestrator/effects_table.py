"""What the terminal says below the cells: what the factors of a design do, and what other images would change."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from orchestrator.cells_table import signed, written_difference
from orchestrator.comparison import Comparison
from orchestrator.image_bootstrap import Gap, ImageGaps, with_gaps
from orchestrator.signs import marked


def effects_table(comparison: Comparison) -> Table | None:
    """Main effects and pairs, away from the levels of the reference. None if there are none."""
    if comparison.effects is None or not comparison.effects.found:
        return None
    table = _table("factor", f"effect, {100 * comparison.analysis.interval:g} %", "blocks", "not told apart from")
    for effect in comparison.effects.found:
        written = written_difference(comparison.objective.metric, effect.estimate)
        table.add_row(*map(Text, (effect.name, written, str(effect.estimate.n), effect.confounded)))
    return table


def images_table(comparison: Comparison, gaps: Mapping[str, ImageGaps | str]) -> Table | None:
    """Differences of mIoU with intervals over images, and how many classes' intervals lie above or below 0. None
    without any."""
    if not (known := with_gaps(gaps)):
        return None
    images = next(iter(known.values())).images
    over = f"mIoU, {100 * comparison.analysis.interval:g} % over {images} images"
    table = _table("cell", over, "classes above 0", "below", "open")
    for cell in comparison.cells:
        if (found := known.get(cell.name)) is not None:
            table.add_row(*map(Text, (marked(cell), _written(found.miou), *map(str, found.counts))))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def _written(gap: Gap) -> str:
    low, high = (signed("val/miou", end) for end in gap.interval)
    return f"{signed('val/miou', gap.mean)} ({low} to {high})"
