"""The plain sections of a run: everything but the components."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from guidedmix_core.components import Config
from guidedmix_core.fields import Range, Size


class Split(Config):
    """Which training images have labels. Two lists of published ids, or a count drawn with a seed."""

    labeled: int | float = Field(
        16,
        gt=0,
        description="how many training images keep their labels: a count, or a share below 1 (1.0: all of them)",
    )
    seed: int = Field(0, ge=0, description="draws the labeled images, stratified so that each class occurs when it can")
    labeled_list: str | None = Field(None, description="a published list of labeled ids; replaces `labeled` and `seed`")
    unlabeled_list: str | None = Field(
        None, description="the unlabeled ids; null: every training image that is not labeled"
    )
    zip_streams: bool = Field(
        False,
        description="pair item i of both lists for the whole run, as the released GuidedMix-Net loader does; "
        "false: two independent streams",
    )

    @model_validator(mode="after")
    def _lists_go_together(self) -> Split:
        if self.unlabeled_list and not self.labeled_list:
            raise ValueError("unlabeled_list needs labeled_list")
        if isinstance(self.labeled, float) and self.labeled > 1:
            raise ValueError(f"labeled={self.labeled}: expected a count (an integer) or a share in (0, 1]")
        return self


class Augment(Config):
    """What a training image goes through, in batch on the device. The weak view is the crop; the strong one adds
    color and blur."""

    crop: Size = Field((96, 96), description="height and width of a training crop, in pixels")
    scale: Range = Field(
        (0.5, 2.0),
        description="the image is resized by a factor drawn uniformly from this range before the crop; shrunk without "
        "antialiasing (as OpenCV in mmseg does; PIL in UniMatch and ST++ antialiases)",
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    max_class_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="redraw a labeled crop, ten times at most, while one class fills more than this share of it "
        "(mmseg's cat_max_ratio, labeled images only)",
    )
    weak_color: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of color distortion on every view, of labeled images too; 0: none. 0.5 is mmseg's "
        "PhotoMetricDistortion: brightness +- 32/255, contrast and saturation times 0.5 to 1.5, hue +- 36 degrees, "
        "each with probability 1/2; other strengths stretch these ranges",
    )
    strong: Literal["jitter", "intensity"] = Field(
        "jitter",
        description="how a strong view is made. jitter: color jitter, gray, blur (UniMatch, ST++); intensity: up to "
        "`operations` of eleven photometric operations with random strengths (AugSeg), which need no other field here",
    )
    operations: int = Field(3, ge=1, le=11, description="of strong=intensity")
    color: float = Field(
        0.5,
        ge=0,
        description="strength of color jitter on the strong views (brightness, contrast, saturation; half of it "
        "for hue)",
    )
    color_probability: float = Field(0.8, ge=0, le=1, description="probability of color jitter on a strong view")
    gray: float = Field(0.2, ge=0, le=1, description="probability that a strong view is gray")
    blur: float = Field(0.5, ge=0, le=1, description="probability that a strong view is blurred, sigma 0.1-2 pixels")


class Optim(Config):
    """The optimizer of the networks and the schedule of its learning rate, counted in steps."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(
        0.01, gt=0, description="learning rate of the head; the backbone's is this times backbone_lr_factor"
    )
    backbone_lr_factor: float = Field(1.0, ge=0, description="0.1 is the head-times-ten rule of the literature")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; AdamW uses it as beta1")
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["constant", "poly", "cosine"] = "poly"
    power: float = Field(0.9, gt=0, description="of the poly schedule")
    min_lr: float = Field(0.0, ge=0, description="the learning rate at the last step, for poly and cosine")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up from zero")
    clip_norm: float | None = Field(None, gt=0, description="clip the norm of each optimizer's gradient; null: off")


class Train(Config):
    """How long, how much at once, how exactly."""

    steps: int = Field(2000, ge=1, description="optimizer steps")
    batch_size: int = Field(8, ge=1, description="labeled images a step, over all workers")
    unlabeled_batch_size: int = Field(8, ge=1, description="unlabeled images a step, over all workers")
    accumulate: int = Field(
        1,
        ge=1,
        description="micro-batches a step: the same images in less memory. Each micro-batch settles for itself "
        "BatchNorm, divisors where pixels are ignored, OHEM's min_kept, quantiles, boxes and partners",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: autocast and channels_last; losses stay in fp32"
    )
    deterministic: bool = Field(True, description="deterministic kernels; false lets CUDA choose faster ones")


class Evaluate(Config):
    """When and how a run is judged. Part of a result's identity."""

    every: int = Field(
        200, ge=1, description="steps between evaluations, reports and checkpoints; the last step is always evaluated"
    )
    part: Literal["val", "test"] = Field("val", description="the part of the data set that is evaluated")
    mode: Literal["whole", "sliding"] = Field(
        "whole",
        description="the whole image at once, or overlapping windows of the crop size, whose probabilities are "
        "averaged (UniMatch; mmseg and CPS average logits)",
    )
    stride: float = Field(2 / 3, gt=0, le=1, description="of the sliding window, as a share of the crop")
    flip: bool = Field(False, description="average the probabilities with those of the mirrored image")
    batch_size: int = Field(8, ge=1, description="images of equal size evaluated at once")
    telemetry_images: int = Field(
        32, ge=0, description="unlabeled images whose withheld truth judges the pseudo masks; 0: none"
    )
    panels: int = Field(4, ge=0, description="fixed validation images whose predictions are kept as pictures")
