"""The algebra of fractions of two-level designs: words, resolution, aliases.

An effect is a set of factors, kept as the bits of an integer; the product of two effects is their exclusive or. The
generator D = ABC is the word ABCD; the words and their products are constant in the fraction. See Box, Hunter and
Hunter, Statistics for Experimenters, 2nd edition, chapter 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from math import comb

SEARCHED = 1_000_000
"""Words that are looked at before a search is refused: about a second."""


def products(words: Sequence[int]) -> list[int]:
    """The words and all products of them."""
    found = [0]
    for word in words:
        found += [word ^ other for other in found]
    return found[1:]


def resolution(words: Sequence[int]) -> int:
    """The length of the shortest word: effects of i and of j factors are aliased only if i + j is at least that."""
    return min(word.bit_count() for word in products(words))


def aliases(num_factors: int, words: Sequence[int], order: int) -> list[list[int]]:
    """All effects of up to `order` factors, in groups that can't be told from each other."""
    constant = [0, *products(words)]
    groups: dict[int, list[int]] = {}
    for effect in effects(num_factors, order):
        groups.setdefault(min(effect ^ word for word in constant), []).append(effect)
    return list(groups.values())


def effects(num_factors: int, order: int) -> Iterator[int]:
    """Of up to `order` factors, the small ones first."""
    for size in range(1, order + 1):
        for chosen in combinations(range(num_factors), size):
            yield sum(1 << i for i in chosen)


def bits(effect: int) -> list[int]:
    """The numbers of its factors."""
    return [i for i in range(effect.bit_length()) if effect >> i & 1]


@cache
def best_words(num_factors: int, asked: int) -> tuple[int, ...]:
    """The generators of a fraction of at least this resolution with the fewest cells; of these the one of least
    aberration: with the fewest words of three factors, then of four, and so on. None if no fraction has it.

    ValueError if there are too many to look at.
    """
    for num_basic in range(1, num_factors):
        missing = range(num_basic, num_factors)
        columns = [effect for effect in effects(num_basic, num_basic) if effect.bit_count() >= asked - 1]
        if comb(len(columns), len(missing)) << len(missing) > SEARCHED:
            raise ValueError("resolution: too many fractions to look at; give generators from a table")
        fractions = (
            tuple(column | 1 << i for i, column in zip(missing, chosen, strict=True))
            for chosen in combinations(columns, len(missing))
        )
        best = min(fractions, key=lambda words: _pattern(num_factors, words), default=None)
        if best is not None and resolution(best) >= asked:
            return best
    return ()


def _pattern(num_factors: int, words: Sequence[int]) -> list[int]:
    lengths = [word.bit_count() for word in products(words)]
    return [lengths.count(length) for length in range(1, num_factors + 1)]
