"""The method: what is learned from labeled and unlabeled images in one step. One component a file.

The loop makes the calls below and no others. A method is a frozen config: it keeps no state; what is trained,
averaged or
remembered lives in the module that `networks` returns (parameters and buffers), which the checkpoint saves whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Views
from guidedmix_core.components import Component
from guidedmix_core.optimizers import backbone_and_head, make_optimizer
from guidedmix_core.rng import At
from guidedmix_core.sections import Optim
from guidedmix_core.segmentors import SegmentationNetwork

if TYPE_CHECKING:
    from guidedmix_core.config import RunConfig

Made = TypeVar("Made", bound=nn.Module)


@runtime_checkable
class Build(Protocol):
    """Builds modules on their own random stream, so that one more module changes nobody's initial weights."""

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data set, in the order of their ids."""
        ...

    def segmentor(self, purpose: str, *, fresh: bool = False) -> SegmentationNetwork:
        """A new segmentor as configured. Equal purpose, equal weights. If a stage before hands on weights, `student`
        begins with all of them, any other with the backbone's; `fresh` begins as in a run without stages."""
        ...

    def module(self, purpose: str, make: Callable[[], Made]) -> Made:
        """Any other module, made under the stream of its purpose."""
        ...


class Student(nn.Module):
    """The networks of a method that trains one network."""

    def __init__(self, student: SegmentationNetwork) -> None:
        super().__init__()
        self.student = student


@dataclass(frozen=True)
class Relabel:
    """How the stage before labels unlabeled images, once, before the method begins."""

    share: float
    """Of the images, those whose prediction changed least while the stage was trained; 1: all of them."""
    keep: bool
    """Images that were labeled for the stage before keep those masks."""
    scales: tuple[float, ...]
    """Of the image, over which probabilities are averaged; of its mirror image too, if `flip`."""
    flip: bool


@dataclass(frozen=True)
class Taught:
    """The pseudo masks a method would teach at this point, for the telemetry against the withheld truth.

    `kept` is where they count; `plain` is the student's own prediction of the same images, which they should beat.
    """

    pseudo: Pseudo
    kept: Bool[Tensor, "U H W"]
    plain: Int[Tensor, "U H W"]


class Method(Component, ABC):
    """The contract. `losses` is pure but for buffers of `nets` that belong to the forward pass (BatchNorm statistics);
    `after_step` and `prepare` may change buffers. All randomness comes from `at`."""

    family = "methods"

    def check(self, run: RunConfig) -> None:
        """ValueError, beginning with the dotted path, if the rest of the run can't serve this method."""
        return

    def views(self) -> Views:
        """The unlabeled views each batch must have."""
        return Views(unlabeled=False)

    def networks(self, build: Build) -> nn.Module:
        """All modules of the run."""
        return Student(build.segmentor("student"))

    def players(self, nets: nn.Module, optim: Optim) -> dict[str, Optimizer]:
        """The optimizers by name. Every parameter that requires a gradient is in exactly one.

        The schedule of the learning rate scales the groups that have an `initial_lr`.
        """
        return {"student": make_optimizer(optim, backbone_and_head(nets, optim))}

    def prepare(self, nets: nn.Module, labeled: Iterator[Batch], at: At) -> None:
        """Once before step 0, never on resume. Every worker gets all labeled images and should end with equal buffers.

        The networks are in training mode.
        """
        return

    @abstractmethod
    def losses(self, nets: nn.Module, batch: Batch, at: At) -> StepLosses:
        """The named terms of this step. The networks are in training mode.

        All terms are descended in one backward pass, whoever trains on them: `adversary.judge` and `detach` keep the
        gradients of opponents apart.
        """

    def after_step(self, nets: nn.Module, at: At) -> None:
        """After the optimizers' step: averages, banks."""
        return

    def result(self, nets: nn.Module) -> SegmentationNetwork:
        """The segmentor whose weights a stage hands on: the one that is evaluated, or the first of them."""
        return cast(Student, nets).student

    def stored_masks(self) -> Relabel | None:
        """Stored pseudo masks that the method needs in `batch.unlabeled.pseudo`; None if it needs none. With them, only
        images that have one are in the unlabeled stream."""
        return None

    def predictor(self, nets: nn.Module) -> Callable[[Float[Tensor, "N C H W"]], Float[Tensor, "N K H W"]]:
        """What is evaluated: image to logits. The networks are in evaluation mode."""
        return cast(Student, nets).student

    def taught(self, nets: nn.Module, batch: Batch, at: At) -> Taught | None:
        """The pseudo masks of `batch.unlabeled` as `losses` would teach them now; None if the method has none."""
        return None
