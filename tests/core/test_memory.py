"""A ring of keys for each class."""

from __future__ import annotations

import torch

from guidedmix_core.memory import ClassMemory, uniform_index


def keys(*values: float) -> torch.Tensor:
    """The same keys of one channel for two classes."""
    return torch.tensor(values, dtype=torch.float).view(1, -1, 1).repeat(2, 1, 1)


def contents(memory: ClassMemory, k: int) -> list[float]:
    return memory.keys[k, : memory.filled[k], 0].tolist()


def test_only_valid_keys_are_stored_in_their_order() -> None:
    memory = ClassMemory([4, 4], 1)
    memory.store(keys(1, 2, 3), torch.tensor([[True, False, True], [False, False, False]]))
    assert (contents(memory, 0), contents(memory, 1)) == ([1, 3], [])


def test_the_oldest_keys_make_room() -> None:
    memory = ClassMemory([3, 3], 1)
    everyone = torch.ones(2, 2, dtype=torch.bool)
    for pair in ((1, 2), (3, 4), (5, 6)):
        memory.store(keys(*pair), everyone)
    assert sorted(contents(memory, 0)) == [4, 5, 6]


def test_each_class_has_a_size_of_its_own() -> None:
    memory = ClassMemory([4, 2], 1)
    for pair in ((1, 2), (3, 4)):
        memory.store(keys(*pair), torch.ones(2, 2, dtype=torch.bool))
    assert (contents(memory, 0), contents(memory, 1)) == ([1, 2, 3, 4], [3, 4])


def test_keys_that_the_smallest_ring_cannot_hold_are_cut_off() -> None:
    memory = ClassMemory([4, 2], 1)
    memory.store(keys(1, 2, 3), torch.ones(2, 3, dtype=torch.bool))
    assert (contents(memory, 0), contents(memory, 1)) == ([1, 2], [1, 2])


def test_what_is_drawn_are_keys_of_the_class_asked_for() -> None:
    memory = ClassMemory([8, 8], 1)
    memory.store(torch.stack([keys(1, 2)[0], keys(5, 6)[0]]), torch.ones(2, 2, dtype=torch.bool))
    chance = torch.tensor([[0.0, 0.4, 0.6, 0.999]]).repeat(2, 1)
    assert memory.draw(chance, torch.tensor([1, 0]))[..., 0].tolist() == [[5, 5, 6, 6], [1, 1, 2, 2]]


def test_an_empty_class_gives_zeros() -> None:
    memory = ClassMemory([8, 8], 3)
    assert memory.draw(torch.rand(2, 5), torch.arange(2)).eq(0).all()


def test_an_index_is_below_its_count() -> None:
    chance = torch.tensor([[0.0, 0.5, 1 - 2**-24]]).repeat(3, 1)
    assert uniform_index(chance, torch.tensor([0, 1, 1_000_003])).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [0, 500_001, 1_000_002],
    ]
