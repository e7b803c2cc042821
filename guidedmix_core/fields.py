"""Types of fields that several sections share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from guidedmix_core.components import Config


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # YAML has lists only; strict mode wants tuples


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"expected the smaller number first, not {list(value)}")
    return value


Tuple = BeforeValidator(_tuple)
Size = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Tuple]
Range = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], Tuple, AfterValidator(_ordered)]
Color = Annotated[tuple[int, int, int], Tuple]


class Ramp(Config):
    """A weight that grows from 0 to `final` over the first part of the run, then stays."""

    final: float = Field(ge=0, description="the weight at the end of the ramp")
    until: float = Field(0.4, gt=0, le=1, description="the share of the run at which it is reached")
    shape: Literal["linear", "sigmoid"] = "linear"


Weight = Annotated[float, Field(ge=0)] | Ramp


def is_off(weight: Weight) -> bool:
    """Whether it is 0 at every step."""
    return (weight.final if isinstance(weight, Ramp) else weight) == 0
