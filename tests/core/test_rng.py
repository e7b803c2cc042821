"""Streams are functions of their key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from guidedmix_core.fields import Ramp
from guidedmix_core.rng import At, ambient, generator


def draw(source: torch.Generator) -> torch.Tensor:
    return torch.rand(4, generator=source)


def test_equal_keys_give_equal_draws() -> None:
    assert torch.equal(draw(generator(0, "mix", 5)), draw(generator(0, "mix", 5)))


def test_every_part_of_the_key_matters() -> None:
    keys = [(0, "mix", 5), (1, "mix", 5), (0, "pair", 5), (0, "mix", 6)]
    draws = {tuple(draw(generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_a_part_has_its_own_stream_and_shares_one_with_the_others() -> None:
    first, second = At(0, 3, 10, part=0), At(0, 3, 10, part=1)
    assert not torch.equal(draw(first.generator("mix")), draw(second.generator("mix")))
    assert torch.equal(draw(first.shared("mix")), draw(second.shared("mix")))


def test_after_stages_the_streams_go_on_and_the_run_counts_its_own_steps() -> None:
    here, there = At(0, 2, 10, part=1, before=3), At(0, 5, 10, part=1)
    assert torch.equal(draw(here.generator("mix")), draw(there.generator("mix")))
    assert torch.equal(draw(here.shared("mix")), draw(there.shared("mix")))
    assert here.progress == 0.2


def test_ambient_draws_come_from_the_key_and_leave_the_global_state() -> None:
    before = torch.random.get_rng_state()
    with ambient(0, "init"):
        first = torch.rand(3)
    with ambient(0, "init"):
        second = torch.rand(3)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ambient_seeds_the_gpu_it_is_asked_for_and_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current, seeded = [0], []

    @contextmanager
    def device(wanted: str) -> Iterator[None]:
        current.append(torch.device(wanted).index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.append(current[-1]))
    monkeypatch.setattr(torch.random, "fork_rng", lambda *_, **__: nullcontext())
    with ambient(0, "dropout", device="cuda:1"):
        pass
    assert seeded == [1]


def test_a_ramp_starts_at_zero_and_stays_at_its_end() -> None:
    ramp = Ramp(final=0.3, until=0.4)
    assert [At(0, step, 10).weight(ramp) for step in (0, 2, 4, 9)] == [0.0, 0.15, 0.3, 0.3]
