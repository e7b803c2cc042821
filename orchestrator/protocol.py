"""What has to be equal before the numbers of two studies may stand side by side: data, labels, classes, crop, judge."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from orchestrator.folder import TrialFolder, read_json
from orchestrator.image_counts import read_counts
from orchestrator.judging import is_part
from orchestrator.results import CLASS, TrialRecord

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Protocol:
    """How the runs of a study were judged, and on what."""

    settings: Mapping[str, Any]
    """Dotted path of the run to its value."""
    classes: tuple[str, ...]
    images: str | None
    """Over the evaluated images: their ids, and the pixels of each class in their truth. None if no run kept them."""
    content: Mapping[str, str]
    """Of each labeled split, its seed to the fingerprint of all that was read with it."""


def protocol_of(runs: Iterable[tuple[TrialRecord, TrialFolder]]) -> Protocol | None:
    """Of complete runs of one configuration, seeds apart. None if there are none."""
    runs = list(runs)
    if not runs:
        return None
    record, folder = runs[0]
    classes = tuple(name.removeprefix(CLASS) for name in record.metrics if name.startswith(CLASS))
    images = next((digest for _, folder in runs if (digest := _images(folder)) is not None), None)
    content = {}
    for _, folder in runs:
        data = read_json(folder.environment).get("data") if folder.environment.exists() else None
        if data is not None:
            content[str(_config(folder).get("split", {}).get("seed", ""))] = data
    return Protocol(settings_of(folder), classes, images, content)


def settings_of(folder: TrialFolder) -> dict[str, Any]:
    """What the protocol takes from a run's configuration: dotted path to value."""
    config = _config(folder)
    found = {
        f"{section}.{key}": value
        for section in ("data", "split", "augment", "evaluate")
        for key, value in config.get(section, {}).items()
    }
    return {path: value for path, value in found.items() if is_part(path)}


def unlike(first: Protocol, other: Protocol) -> list[str]:
    """What differs, in words: `split.labeled: 8 and 16`. Empty if all that is known is equal."""
    found = unlike_settings(first.settings, other.settings)
    if set(first.classes) != set(other.classes):
        missing = [name for name in first.classes if name not in other.classes]
        extra = [name for name in other.classes if name not in first.classes]
        words = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(extra)}"] * bool(extra)
        found.append(f"classes: {len(first.classes)} and {len(other.classes)}, {' and '.join(words)}")
    elif first.images is not None and other.images is not None and first.images != other.images:
        found.append(f"evaluated images or their truth: digest {first.images} and {other.images}")
    for seed in sorted(first.content.keys() & other.content.keys()):
        if first.content[seed] != other.content[seed] and not found:
            name = f"split.seed {seed}" if seed else "the split"
            found.append(f"data read with {name}: fingerprint {first.content[seed]} and {other.content[seed]}")
    return found


def unlike_settings(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Of a data set with another name only the name: the rest is its own."""
    if first.get("data.name") != other.get("data.name"):
        first, other = ({k: v for k, v in each.items() if not _of_data(k)} for each in (first, other))
    return [
        f"{path}: {_word(first, path)} and {_word(other, path)}"
        for path in dict.fromkeys([*first, *other])
        if path in first and path in other and first[path] != other[path] and not _is_idle(path, first, other)
    ]


def unverified(first: Protocol, other: Protocol) -> list[str]:
    """What the records don't allow to compare."""
    said = []
    if first.images is None or other.images is None:
        said.append("the evaluated images")
    if not first.content.keys() & other.content.keys():
        said.append("the labeled images")
    return said


def _config(folder: TrialFolder) -> dict[str, Any]:
    return yaml.load(folder.config.read_text(encoding="utf-8"), _LOADER) if folder.config.exists() else {}


def _of_data(path: str) -> bool:
    return path.startswith("data.") and path != "data.name"


def _is_idle(path: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The stride of a window that neither slides, and a count that published lists replace."""
    if path == "evaluate.stride":
        return all(each.get("evaluate.mode") == "whole" for each in (first, other))
    return path == "split.labeled" and all(each.get("split.labeled_list") is not None for each in (first, other))


def _word(settings: Mapping[str, Any], path: str) -> str:
    value = settings[path]
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _images(folder: TrialFolder) -> str | None:
    """TP + FN of a class are its pixels in the truth, whatever was predicted."""
    if (found := read_counts(folder.counts)) is None:
        return None
    order = np.argsort(found.ids)
    truth = found.counts[order][..., [0, 2]].sum(-1).astype("<i8")
    digest = hashlib.sha256("\n".join(found.ids[place] for place in order).encode())
    digest.update(truth.tobytes())
    return digest.hexdigest()[:16]
