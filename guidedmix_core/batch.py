"""What a step sees, and what it gives back.

The letters of every shape in this package:
`B` labeled images · `U` unlabeled images · `N` images of any kind · `C` image channels · `H W` image · `K` classes ·
`D` features · `h w` feature map · `P` pixels or points.

Images are floats in [0, 1]; the segmentor normalizes. A mask holds class ids, 255 is ignored. A region is boolean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORE = 255


@dataclass(frozen=True)
class Views:
    """The unlabeled views a method needs; it does not pay for others."""

    unlabeled: bool = True
    strong: int = 0
    partner: bool = False
    """A second, independent draw of unlabeled images, for methods that mix two of them."""


@dataclass(frozen=True)
class Unlabeled:
    """Unlabeled images: one weak view, and strong views of the very same crop."""

    weak: Float[Tensor, "U C H W"]
    strong: tuple[Float[Tensor, "U C H W"], ...]
    valid: Bool[Tensor, "U H W"]
    """False where the crop leaves the image."""
    pseudo: Int[Tensor, "U H W"] | None = None
    """The crop of the stored pseudo mask, where the method has asked for one; 255 where the crop leaves the image."""


@dataclass(frozen=True)
class Batch:
    """The part of a step's batch that one worker sees in one micro-batch."""

    image: Float[Tensor, "B C H W"]
    mask: Int[Tensor, "B H W"]
    unlabeled: Unlabeled | None = None
    partner: Unlabeled | None = None


@dataclass(frozen=True)
class Pseudo:
    """What is claimed of unlabeled pixels: the class, how surely, and whether the pixel exists."""

    label: Int[Tensor, "N H W"]
    confidence: Float[Tensor, "N H W"]
    valid: Bool[Tensor, "N H W"]
    probability: Float[Tensor, "N K H W"] | None = None

    def take(self, index: Int[Tensor, "M"]) -> Pseudo:
        """What is claimed of these images, in this order."""
        probability = None if self.probability is None else self.probability[index]
        return Pseudo(self.label[index], self.confidence[index], self.valid[index], probability)


@dataclass(frozen=True)
class StepLosses:
    """Named loss terms and the weight of each at this step. A term of weight 0 is not computed: it is absent here.

    `metrics` are detached scalars worth logging; they reach the report as `train/<name>`.
    """

    terms: dict[str, Float[Tensor, ""]]
    weights: dict[str, float]
    metrics: dict[str, Float[Tensor, ""]] = field(default_factory=dict)

    def total(self) -> Float[Tensor, ""]:
        """The weighted sum that is descended."""
        first, *others = (self.weights[name] * term for name, term in self.terms.items())
        return sum(others, first)
