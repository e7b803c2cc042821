"""Fractional factorial, 2^(k-p): main effects, and some interactions, of two-level factors in a part of the cells."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Annotated, Self

from pydantic import Field, model_validator

from guidedmix_core import Tuple
from orchestrator.designs import Design, Factors, Levels, check_known, check_two_levels
from orchestrator.designs._words import aliases, best_words, bits, resolution

ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


class FractionalFactorial(Design):
    """A fraction, in which chosen factors are products of the others. Give its resolution, or the products."""

    resolution: int | None = Field(
        None,
        ge=3,
        le=10,
        description="3: main effects are aliased with interactions of two factors; 4: only these with each other; "
        "5: neither. The fewest cells that have it, and of these the least aliased",
    )
    generators: dict[str, Annotated[tuple[str, ...], Tuple, Field(min_length=2)]] | None = Field(
        None, description="a factor, and those whose product it is: {mixup: [mixing, pairing, mitrans]} is D = ABC"
    )

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        if (self.resolution is None) == (self.generators is None):
            raise ValueError("give either resolution or generators")
        return self

    def points(self, factors: Factors) -> list[Levels]:
        from pyDOE3 import fracfact  # slow to import

        generated = self._generated(factors)
        basic = iter(ascii_lowercase)
        letter = {i: next(basic) for i in range(len(factors)) if i not in generated}
        columns = (
            "".join(letter[j] for j in bits(generated[i])) if i in generated else letter[i] for i in range(len(factors))
        )
        matrix = fracfact(" ".join(columns))[::-1]  # the last row is full: first
        return [
            {factor: levels[int(sign < 0)] for (factor, levels), sign in zip(factors.items(), row, strict=True)}
            for row in matrix
        ]

    def facts(self, factors: Factors) -> list[str]:
        words, names = self.words(factors), list(factors)
        whole, size = 2 ** len(names), 2 ** (len(names) - len(words))

        def spelled(effect: int) -> str:
            return " x ".join(names[i] for i in bits(effect))

        groups = [group for group in aliases(len(names), words, order=2) if len(group) > 1]
        listed = "; ".join(" = ".join(map(spelled, group)) for group in groups) or "none"
        return [
            f"fractional_factorial: 2^({len(names)}-{len(words)}) = {size} of {whole} combinations, balanced; "
            f"resolution {ROMAN[resolution(words)]}. Constant: {'; '.join(map(spelled, words))}.",
            f"Aliases of main effects and interactions of two factors: {listed}.",
        ]

    def words(self, factors: Factors) -> tuple[int, ...]:
        """The generators, each with the factor that it gives."""
        return tuple(effect | 1 << factor for factor, effect in self._generated(factors).items())

    def _generated(self, factors: Factors) -> dict[int, int]:
        """By number of the factor: the effect whose sign it takes."""
        check_two_levels(self.name, factors)
        if self.generators is not None:
            return self._given(factors, self.generators)
        assert self.resolution is not None
        words = best_words(len(factors), self.resolution)
        if not words:
            raise ValueError(
                f"no fraction of {len(factors)} factors has resolution {self.resolution}; take full_factorial, or less"
            )
        return {(last := word.bit_length() - 1): word ^ 1 << last for word in words}

    def _given(self, factors: Factors, generators: dict[str, tuple[str, ...]]) -> dict[int, int]:
        number = {factor: i for i, factor in enumerate(factors)}
        for factor, product in generators.items():
            for name in (factor, *product):
                check_known(name, factors, f"generators.{factor}")
                if name in generators and name != factor:
                    raise ValueError(f"generators.{factor}: {name} is generated itself; name factors that are not")
            if factor in product or len(set(product)) < len(product):
                raise ValueError(f"generators.{factor}: expected different factors other than {factor}")
        if (size := 2 ** (len(factors) - len(generators))) <= len(factors):
            raise ValueError(
                f"generators: {len(generators)} of them leave {size} cells for {len(factors)} main effects and a mean; "
                "take out generators"
            )
        found = {number[factor]: sum(1 << number[name] for name in product) for factor, product in generators.items()}
        if len(set(found.values())) < len(found):
            raise ValueError("generators: two factors have the same product: their effects can't be told apart")
        return found
