"""What a data set on disk has in it, and what is wrong with it. Every image and mask is opened, none is cached."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from guidedmix_core import (
    ConfigError,
    Dataset,
    Part,
    Record,
    Tree,
    build,
    find,
    names,
    nearest,
    override,
    parse_changes,
    read_run,
    search_spaces,
)


@dataclass(frozen=True)
class Seen:
    """What one image turned out to be."""

    record: Record
    digest: str | None
    """Of the decoded pixels; None if the image can't be read."""
    size: tuple[int, int] | None
    counts: np.ndarray | None
    """Pixels of each id, 256 of them; None without a mask."""
    problems: tuple[str, ...]


@dataclass
class PartFacts:
    """What a part has. `pixels` has a number for each class and, at last, that of ignored pixels."""

    part: Part
    seen: list[Seen]
    num_classes: int
    pixels: np.ndarray = field(init=False)
    present: np.ndarray = field(init=False)
    """A row for each image with a mask: which classes it has."""

    def __post_init__(self) -> None:
        counts = np.array([image.counts for image in self.masked]).reshape(-1, 256)
        self.pixels = np.append(counts[:, : self.num_classes].sum(0), counts[:, 255].sum())
        self.present = counts[:, : self.num_classes] > 0

    @property
    def masked(self) -> list[Seen]:
        return [image for image in self.seen if image.counts is not None]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return sorted({image.size for image in self.seen if image.size is not None})

    @property
    def shares(self) -> np.ndarray:
        """Of the pixels that have a class; NaN if none has one."""
        classes = self.pixels[:-1]
        return classes / classes.sum() if classes.sum() else np.full(len(classes), np.nan)


@dataclass(frozen=True)
class Inspection:
    """The parts that could be listed, in order; those that are another part once more; and all that is wrong."""

    parts: list[PartFacts]
    repeats: dict[Part, Part]
    problems: list[str]


def named_dataset(name: str, assignments: Sequence[str]) -> Dataset:
    """A data set by its name, or the one of a run such as `kvasir`, with fields changed. ConfigError if none is."""
    runs = {file.stem for folder in search_spaces() for file in folder.glob("base/*.yaml")}
    if name in names("datasets"):
        tree = Tree({}, {})
    elif name.removeprefix("base/") in runs or name.endswith((".yaml", ".yml")):
        run = read_run(name)
        tree = Tree(dict(run.values["data"]), {})
        name = tree.values.pop("name")
    else:
        raise ConfigError(f"no data set or run {name!r}; {nearest(name, {*names('datasets'), *runs})}")
    dataset = build(override(tree, parse_changes(assignments), "command line"), find("datasets", name))
    assert isinstance(dataset, Dataset)
    return dataset


def list_parts(dataset: Dataset) -> tuple[dict[Part, list[Record]], list[str]]:
    """The images of each part, and what keeps a part from being listed. ConfigError if none can be."""
    listed: dict[Part, list[Record]] = {}
    problems = []
    for part in dataset.parts():
        try:
            listed[part] = dataset.records(part)
        except ConfigError as error:
            problems.append(f"{part}: {error}")
    if not listed:
        raise ConfigError(problems[0].partition(": ")[2])
    return listed, problems


def inspect(
    dataset: Dataset, listed: dict[Part, list[Record]], problems: Sequence[str], advance: Callable[[], object]
) -> Inspection:
    """Opens everything that is listed; `advance` is called after each image."""
    repeats: dict[Part, Part] = {}
    for part, other in combinations(listed, 2):
        if listed[part] == listed[other]:
            repeats.setdefault(other, part)
    num_classes = len(dataset.classes())
    facts = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for part, records in listed.items():
            if part in repeats:
                continue
            seen = []
            for image in threads.map(lambda record: _look(dataset, record), records):
                seen.append(image)
                advance()
            facts.append(PartFacts(part, seen, num_classes))
    found = [*problems, *(line for part in facts for line in _of_part(part, dataset)), *_duplicates(facts)]
    return Inspection(facts, repeats, found)


def shown_images(facts: PartFacts, count: int) -> list[Record]:
    """A few that have masks, such that as many classes as possible are among them; the rest spread over the part."""
    present, left = facts.present, np.ones(len(facts.present), bool)
    missing, chosen = np.ones(facts.num_classes, bool), []
    while len(chosen) < min(count, len(present)) and (gain := (present & missing).sum(1) * left).any():
        chosen.append(int(gain.argmax()))
        left[chosen[-1]] = False
        missing &= ~present[chosen[-1]]
    free = np.flatnonzero(left)
    wanted = min(count - len(chosen), len(free))
    chosen += [int(free[(2 * i + 1) * len(free) // (2 * wanted)]) for i in range(wanted)]
    return [facts.masked[i].record for i in sorted(chosen)]


def _look(dataset: Dataset, record: Record) -> Seen:
    try:
        image = dataset.read_image(record)
    except (OSError, ConfigError) as error:
        return Seen(record, None, None, None, (f"{record.id}: the image can't be read ({error})",))
    digest, size = hashlib.sha256(image.tobytes()).hexdigest(), (image.shape[0], image.shape[1])
    if not record.has_mask:
        return Seen(record, digest, size, None, ())
    try:
        mask = dataset.read_mask(record)
    except OSError as error:
        return Seen(record, digest, size, None, (f"{record.id}: the mask can't be read ({error})",))
    except ConfigError as error:
        return Seen(record, digest, size, None, (f"{record.id}: {error}",))
    return Seen(record, digest, size, np.bincount(mask.ravel(), minlength=256), ())


def _of_part(facts: PartFacts, dataset: Dataset) -> Iterator[str]:
    yield from (f"{facts.part}: {problem}" for image in facts.seen for problem in image.problems)
    if not facts.masked:
        yield f"{facts.part}: no image has a mask"
        return
    in_masks = facts.present.sum(0).tolist()
    if absent := [name for name, count in zip(dataset.classes().names, in_masks, strict=True) if not count]:
        yield f"{facts.part}: no mask has {', '.join(absent)}"
    counts = np.array([image.counts for image in facts.masked])
    blank = np.flatnonzero(counts[:, 255] == counts.sum(1))
    if len(blank):
        first = facts.masked[blank[0]].record.id
        yield f"{facts.part}: every pixel is ignored in {len(blank)} masks, such as that of {first}"


def _duplicates(facts: Sequence[PartFacts]) -> Iterator[str]:
    """An image of one part that is in another, too: what is trained on is judged by."""
    places: dict[str, dict[Part, str]] = defaultdict(dict)
    for part in facts:
        for image in part.seen:
            if image.digest:
                places[image.digest].setdefault(part.part, image.record.id)
    twice: dict[tuple[Part, ...], list[str]] = defaultdict(list)
    for found in places.values():
        if len(found) > 1:
            twice[tuple(found)].append(" = ".join(f"{part} {name}" for part, name in found.items()))
    for parts, pairs in twice.items():
        yield f"{' and '.join(parts)}: {len(pairs)} images are in both, such as {pairs[0]}"
