"""Pascal VOC's colors."""

from __future__ import annotations


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """The bits of the id, dealt to the three channels from the highest bit down."""

    def channel(i: int, shift: int) -> int:
        return sum(((i >> (3 * bit + shift)) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count))
