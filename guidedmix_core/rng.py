"""Named random streams. Every purpose draws from its own, keyed by (seed, purpose, step, part of the batch).

A stream is a function of its key, not of what was drawn before. So a checkpoint holds no generator state, a resumed run
draws what the unbroken one drew, and switching one component off leaves every other draw untouched: arms are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from guidedmix_core.fields import Ramp, Weight
from guidedmix_core.schedules import ramp


def stream_seed(*key: int | str) -> int:
    """63 bits that depend on every part of the key."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest(), "big") >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator at the beginning of the key's stream."""
    return torch.Generator(device).manual_seed(stream_seed(*key))


@contextmanager
def ambient(*key: int | str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Code that can only draw from torch's global generator (weight initialization, dropout) draws from the key's
    stream; the global state is restored."""
    on_cuda = torch.device(device).type == "cuda"
    with torch.random.fork_rng([torch.device(device)] if on_cuda else [], device_type="cuda"):
        torch.default_generator.manual_seed(stream_seed(*key))
        if on_cuda:
            with torch.cuda.device(device):  # it seeds the current one
                torch.cuda.manual_seed(stream_seed(*key))
        yield


@dataclass(frozen=True)
class At:
    """Where in the run a step is: its number, the run's length, which part of the batch, and the random streams of
    this place.

    `part` numbers the micro-batches of all workers: 0 .. workers x accumulate - 1. `before` counts the steps of the
    stages before the run: its streams go on where theirs ended, so it does not see their first batches again.
    """

    seed: int
    step: int
    steps: int
    part: int = 0
    before: int = 0

    @property
    def progress(self) -> float:
        """In [0, 1): the share of the run that lies behind."""
        return self.step / self.steps

    def generator(self, purpose: str) -> torch.Generator:
        """This part's stream (CPU)."""
        return generator(self.seed, purpose, self.before + self.step, self.part)

    def shared(self, purpose: str) -> torch.Generator:
        """One stream for the whole step, equal in all parts and on all workers (CPU)."""
        return generator(self.seed, purpose, self.before + self.step)

    def ambient(self, purpose: str, device: torch.device) -> AbstractContextManager[None]:
        """This part's stream for code that draws from the global generator, such as dropout."""
        return ambient(self.seed, purpose, self.before + self.step, self.part, device=device)

    def weight(self, weight: Weight) -> float:
        """The value of a weight or ramp at this step."""
        return weight.final * ramp(self.progress / weight.until, weight.shape) if isinstance(weight, Ramp) else weight

    def weights(self, named: Mapping[str, Weight]) -> dict[str, float]:
        """Those that are not 0 at this step: only their terms are computed."""
        return {name: value for name, weight in named.items() if (value := self.weight(weight)) > 0}
