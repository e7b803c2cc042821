"""What one parameter of a search may be, such as `uniform: [0.1, 0.5]`, and under which condition it exists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from guidedmix_core import Config, Tuple


def _rising(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if bounds[0] >= bounds[1]:
        raise PydanticCustomError("space", "expected the smaller number first, and two different ones")
    return bounds


def _positive(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if bounds[0] <= 0:
        raise PydanticCustomError("space", "a logarithm needs bounds above 0")
    return bounds


def _whole_steps(grid: tuple[float, float, float]) -> tuple[float, float, float]:
    low, high, step = (Decimal(str(number)) for number in grid)
    if step <= 0 or (high - low) % step:
        raise PydanticCustomError("space", "expected [low, high, step] with a whole number of steps from low to high")
    return grid


def _different(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    if not choices:
        raise PydanticCustomError("space", "expected one value or more")
    if any(value in choices[:i] for i, value in enumerate(choices)):
        raise PydanticCustomError("space", "a value is given twice")
    return choices


Some = Annotated[tuple[Any, ...], Tuple, AfterValidator(_different)]


class Domain(Config, ABC):
    """The values of one parameter."""

    when: dict[str, Some] = Field(
        {}, description="the parameter exists only while each of these parameters has one of its values"
    )

    @abstractmethod
    def extremes(self) -> tuple[Any, ...]:
        """The values at which a run is most likely to be refused."""

    @abstractmethod
    def middle(self) -> Any: ...

    def values(self) -> tuple[Any, ...] | None:
        """All of them in order; None if they can't be counted."""
        return None

    def has(self, value: Any) -> bool:
        """Whether the parameter can take the value."""
        return value in (self.values() or ())


class _Continuous(Domain):
    @abstractmethod
    def _bounds(self) -> tuple[float, float]: ...

    def extremes(self) -> tuple[float, ...]:
        return self._bounds()

    def has(self, value: Any) -> bool:
        low, high = self._bounds()
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


class Uniform(_Continuous):
    """A number between two bounds."""

    uniform: Annotated[tuple[float, float], Tuple, AfterValidator(_rising)]

    def _bounds(self) -> tuple[float, float]:
        return self.uniform

    def middle(self) -> float:
        return sum(self.uniform) / 2


class Log(_Continuous):
    """A number between two bounds, its logarithm uniform."""

    log: Annotated[tuple[float, float], Tuple, AfterValidator(_positive), AfterValidator(_rising)]

    def _bounds(self) -> tuple[float, float]:
        return self.log

    def middle(self) -> float:
        return (self.log[0] * self.log[1]) ** 0.5


class _Countable(Domain):
    @abstractmethod
    def values(self) -> tuple[Any, ...]: ...

    def extremes(self) -> tuple[Any, ...]:
        return self.values()[0], self.values()[-1]

    def middle(self) -> Any:
        return self.values()[len(self.values()) // 2]


class Int(_Countable):
    """An integer, both bounds included."""

    int: Annotated[tuple[int, int], Tuple, AfterValidator(_rising)]

    def values(self) -> tuple[Any, ...]:
        return tuple(range(self.int[0], self.int[1] + 1))


class Choice(_Countable):
    """One of a list, in no order."""

    choice: Some

    def extremes(self) -> tuple[Any, ...]:
        return self.choice

    def middle(self) -> Any:
        return self.choice[0]

    def values(self) -> tuple[Any, ...]:
        return self.choice


class Quantized(_Countable):
    """A number on a grid: low, high, step; integers if all three are."""

    quantized: Annotated[
        tuple[int | float, int | float, int | float], Tuple, AfterValidator(_whole_steps), AfterValidator(_rising)
    ]

    def values(self) -> tuple[Any, ...]:
        low, high, step = (Decimal(str(number)) for number in self.quantized)  # 0.1 + 2 * 0.1 is 0.3 in decimals only
        kind = int if all(isinstance(number, int) for number in self.quantized) else float
        return tuple(kind(low + i * step) for i in range(int((high - low) / step) + 1))


KINDS: dict[str, type[Domain]] = {kind.__name__.lower(): kind for kind in (Uniform, Log, Int, Choice, Quantized)}


def _kind(value: Any) -> str | None:
    names = [key for key in value if key in KINDS] if isinstance(value, dict) else [type(value).__name__.lower()]
    return names[0].capitalize() if len(names) == 1 and names[0] in KINDS else None


Distribution = Annotated[
    Annotated[Uniform, Tag("Uniform")]
    | Annotated[Log, Tag("Log")]
    | Annotated[Int, Tag("Int")]
    | Annotated[Choice, Tag("Choice")]
    | Annotated[Quantized, Tag("Quantized")],
    Discriminator(
        _kind,
        custom_error_type="space",
        custom_error_message="expected one of uniform: [low, high], log: [low, high], int: [low, high], "
        "choice: [values], quantized: [low, high, step], and perhaps a when",
    ),
]
Parameters = Mapping[str, Domain]
