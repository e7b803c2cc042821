"""Published lists of images, in the formats in circulation: bare ids, image and mask paths on a line, `city/file`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from guidedmix_core.datasets import Record
from guidedmix_core.errors import ConfigError


def read_list(path: Path) -> list[str]:
    """The first word of each line that has one. ConfigError if there is none."""
    try:
        lines = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: the list can't be read ({error}); expected a text file with one image a line"
        ) from error
    if not lines:
        raise ConfigError(f"{path}: the list is empty; expected one image a line")
    return lines


class Names:
    """Everything a record may be called: its id, or the name of its file in the folder of the id; and the last parts of
    both, where no other record shares them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._whole: dict[str, Record] = {}
        self._parts: dict[str, Record | None] = {}
        for record in records:
            path = record.image if record.slice is None else None  # a slice has no file of its own
            file = path.stem if path else PurePosixPath(record.id).name
            for name in {record.id, str(PurePosixPath(record.id).with_name(file))}:
                self._whole[name] = record
                for tail in _tails(name)[1:]:
                    self._parts[tail] = record if self._parts.get(tail, record) is record else None

    def find_all(self, lines: Sequence[str], place: str) -> list[Record]:
        """In the order of the lines. ConfigError, beginning with `place`, if one is unknown or two name one image."""
        found = [self.find(line) for line in lines]
        if unknown := [line for line, record in zip(lines, found, strict=True) if record is None]:
            raise ConfigError(
                f"{place}: {len(unknown)} of {len(lines)} lines name no image ({first_few(unknown)}); "
                f"the ids of this data set look like {next(iter(self._whole), '(there is none)')}"
            )
        records = {record.id: record for record in found if record is not None}
        if len(records) < len(lines):
            raise ConfigError(f"{place}: {len(lines)} lines name {len(records)} images; list each image once")
        return list(records.values())

    def find(self, line: str) -> Record | None:
        """Of an id, or a path that ends in one or in its file: `2007_000032`, `/JPEGImages/2007_000032.jpg`,
        `leftImg8bit/train/city/stem.png`."""
        tails = _tails(line)
        whole = (self._whole[name] for tail in tails for name in _stems(tail) if name in self._whole)
        part = (record for name in _stems("/".join(tails[:1])) if (record := self._parts.get(name)))
        return next(whole, None) or next(part, None)


def first_few(names: Sequence[str]) -> str:
    """Up to three of them, for a message."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _tails(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _stems(name: str) -> Iterator[str]:
    """The name as it is, without its last ending, without all endings."""
    folder, slash, last = name.rpartition("/")
    return (f"{folder}{slash}{stem}" for stem in (last, last.rpartition(".")[0], last.partition(".")[0]) if stem)
