"""Predictions beside the truth as pictures inside the page, and the legend of their colors."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from orchestrator.report.facts import Facts
from orchestrator.results import TrialRecord

WIDTH = 480
"""Pixels; what is larger is made smaller, so that the page stays light."""
IGNORED = 255


@dataclass(frozen=True)
class Picture:
    title: str
    source: str
    """A data URI."""


@dataclass(frozen=True)
class Swatch:
    name: str
    color: str


def panel_rows(facts: Facts) -> list[list[Picture]]:
    """A row for each fixed image: image, truth, best, reference. Empty if the best trial kept no panels."""
    if facts.best is None:
        return []
    shown = [(facts.name(facts.best) if facts.is_search else "prediction", facts.best)]
    return rows_of(facts, [*shown, *([(facts.name(facts.reference), facts.reference)] if facts.reference else [])])


def rows_of(
    facts: Facts, runs: Sequence[tuple[str, TrialRecord]], stems: Sequence[str] | None = None
) -> list[list[Picture]]:
    """A row for each fixed image, or for those named: image, truth, and the prediction of each run under its title."""
    homes = [(title, facts.home(run).panels) for title, run in runs]
    if stems is None:
        stems = [image.name.removesuffix("_image.png") for image in sorted(homes[0][1].glob("*_image.png"))]
    rows = []
    for stem in stems:
        image = homes[0][1] / f"{stem}_image.png"
        shown = [("image", image), ("truth", image.with_name(f"{stem}_truth.png"))]
        shown += [(title, panels / f"{stem}_prediction.png") for title, panels in homes]
        rows.append(
            [
                Picture(title, _photo(file) if title == "image" else _mask(file))
                for title, file in shown
                if file.exists()
            ]
        )
    return rows


def legend(facts: Facts, run: TrialRecord | None) -> list[Swatch]:
    """Class names and colors, those of the palette of the run's own masks."""
    masks = [] if run is None else sorted(facts.home(run).panels.glob("*_truth.png"))
    if not masks:
        return []
    with Image.open(masks[0]) as mask:
        colors = mask.getpalette() or []
    swatches = [Swatch(name, _hex(colors[3 * i : 3 * i + 3])) for i, name in enumerate(facts.classes)]
    return [*swatches, Swatch("ignored", _hex(colors[3 * IGNORED :]))] if _is_ignored_anywhere(masks) else swatches


def _photo(file: Path) -> str:
    with Image.open(file) as picture:
        photo = picture.convert("RGB")
    if photo.width > WIDTH:
        photo = photo.resize(_smaller(photo.size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=88)
    return _uri("jpeg", buffer.getvalue())


def _mask(file: Path) -> str:
    with Image.open(file) as mask:
        if mask.width <= WIDTH:
            return _uri("png", file.read_bytes())
        small = mask.resize(_smaller(mask.size), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def _is_ignored_anywhere(masks: list[Path]) -> bool:
    for file in masks:
        with Image.open(file) as mask:
            if mask.getextrema()[1] == IGNORED:
                return True
    return False


def _smaller(size: tuple[int, int]) -> tuple[int, int]:
    return WIDTH, round(size[1] * WIDTH / size[0])


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _hex(color: list[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color[:3]) if len(color) >= 3 else "#ffffff"
