"""Pseudo masks: how they are read off logits, decoupled from a mixed image, filtered and taught."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from guidedmix_core.batch import IGNORE, Pseudo
from guidedmix_core.losses import (
    Normalize,
    average,
    kl_divergence,
    mean_squared_error,
    sigmoid_focal,
    soft_cross_entropy,
    squared_error,
)

Decoupling = Literal["none", "logit_sub", "logit", "probability"]
PixelLoss = Literal["ce", "focal", "mse", "sse", "kl"]


@torch.no_grad()
def predict_pseudo(logits: Float[Tensor, "N K H W"], valid: Bool[Tensor, "N H W"]) -> Pseudo:
    """What the logits claim. No gradient leads back."""
    probability = logits.float().softmax(1)
    confidence, label = probability.max(1)
    return Pseudo(label, confidence, valid, probability)


def confident(pseudo: Pseudo, threshold: float) -> Bool[Tensor, "N H W"]:
    """Where a pseudo mask counts: pixels that exist, claimed with at least this probability. 0 keeps all that exist."""
    return pseudo.valid & (pseudo.confidence >= threshold)


def known(mask: Int[Tensor, "N H W"]) -> Pseudo:
    """A true mask as a claim: sure of every pixel that has a class."""
    valid = mask != IGNORE
    return Pseudo(mask.where(valid, 0), torch.ones_like(mask, dtype=torch.float), valid)


def confident_share(pseudo: Pseudo, threshold: float) -> Float[Tensor, ""]:
    """The share of all pixels that counts: ClassMix and CutMix-Seg weight every pixel with it."""
    return confident(pseudo, threshold).float().mean()


def decouple(
    mixed: Float[Tensor, "N K H W"],
    labeled: Float[Tensor, "N K H W"],
    lam: float,
    kind: Decoupling,
    truth: Int[Tensor, "N H W"] | None = None,
) -> Float[Tensor, "N K H W"]:
    """The logits of the unlabeled image: those of the mixed one without the share `lam` of the labeled one.

    `logit_sub`: z_m - lam z_l, as released, about 1 - lam times a prediction in scale. `logit`: that over 1 - lam.
    `probability`: the logarithm of `decouple_probability`; a truth, if given, replaces the labeled prediction.
    """
    mixed, labeled = mixed.float(), labeled.float()
    if kind == "none":
        return mixed
    if kind == "probability":
        taken = labeled.softmax(1) if truth is None else one_hot(truth, labeled.softmax(1))
        return decouple_probability(mixed.softmax(1), taken, lam).clamp(min=torch.finfo(torch.float32).tiny).log()
    difference = mixed - lam * labeled
    return difference if kind == "logit_sub" else difference / (1 - lam)


def decouple_probability(
    mixed: Float[Tensor, "N K H W"], labeled: Float[Tensor, "N K H W"], lam: float
) -> Float[Tensor, "N K H W"]:
    """P_m - lam P_l, cut off at 0 and normalized. It sums to 1 - lam before the cut: for lam < 1 no pixel is empty."""
    rest = (mixed - lam * labeled).clamp(min=0)
    return rest / rest.sum(1, keepdim=True)


def one_hot(mask: Int[Tensor, "N H W"], otherwise: Float[Tensor, "N K H W"]) -> Float[Tensor, "N K H W"]:
    """Probability 1 for the class of each pixel; where the mask is ignored, what `otherwise` says."""
    classes = torch.arange(otherwise.shape[1], device=mask.device).view(1, -1, 1, 1)
    exact = (mask.unsqueeze(1) == classes).to(otherwise.dtype)
    return torch.where((mask == IGNORE).unsqueeze(1), otherwise, exact)


def teach(
    logits: Float[Tensor, "N K H W"],
    pseudo: Pseudo,
    weight: Float[Tensor, "N H W"],
    *,
    loss: PixelLoss,
    soft: bool = False,
    normalize: Normalize = "valid",
    alpha: float = 0.5,
    gamma: float = 0.5,
) -> Float[Tensor, ""]:
    """The loss of the logits against a pseudo mask: weighted per pixel, divided by the valid pixels or by all."""
    if loss == "focal":
        pixels = sigmoid_focal(logits, pseudo.label, alpha=alpha, gamma=gamma)
    elif loss == "ce" and not soft:
        pixels = F.cross_entropy(logits.float(), pseudo.label, reduction="none")
    else:
        assert pseudo.probability is not None
        losses = {"ce": soft_cross_entropy, "mse": mean_squared_error, "sse": squared_error, "kl": kl_divergence}
        pixels = losses[loss](logits, pseudo.probability)
    return average(pixels, pseudo.valid, normalize=normalize, weight=weight)


def shrink(
    pixels: Int[Tensor, "N H W"] | Bool[Tensor, "N H W"], size: tuple[int, int]
) -> Int[Tensor, "N h w"] | Bool[Tensor, "N h w"]:
    """A mask or region at another size, each pixel from the nearest one."""
    if tuple(pixels.shape[1:]) == size:
        return pixels
    return F.interpolate(pixels.unsqueeze(1).float(), size, mode="nearest-exact").squeeze(1).to(pixels.dtype)
