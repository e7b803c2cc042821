"""Losses of pixels, and what they are divided by. All are computed in fp32."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from guidedmix_core.batch import IGNORE

Normalize = Literal["valid", "all"]


def cross_entropy(
    logits: Float[Tensor, "N K H W"],
    mask: Int[Tensor, "N H W"],
    *,
    normalize: Normalize = "valid",
    weight: Float[Tensor, "N H W"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy summed over the pixels that have a class, divided by their number (`valid`) or by that of all.

    `weight` scales each pixel's share in the sum, never the divisor. Without a valid pixel the loss is 0 and connected.
    """
    loss = F.cross_entropy(logits.float(), mask, ignore_index=IGNORE, reduction="none")
    return average(loss, mask != IGNORE, normalize=normalize, weight=weight)


def hardest(
    logits: Float[Tensor, "N K H W"], mask: Int[Tensor, "N H W"], threshold: float, min_kept: int
) -> Int[Tensor, "N H W"]:
    """The mask with all but the hard pixels ignored: online hard example mining as CPS, U2PL and UniMatch have it.

    Hard is a pixel whose own class has a probability of at most `threshold`, and at least the `min_kept` hardest.
    """
    probability = logits.detach().float().softmax(1).gather(1, mask.where(mask != IGNORE, 0).unsqueeze(1)).squeeze(1)
    probability = probability.where(mask != IGNORE, 2.0)
    at_least = probability.flatten().sort().values[min(min_kept, probability.numel()) - 1]
    return mask.where(probability <= at_least.clamp(min=threshold), IGNORE)


def soft_cross_entropy(logits: Float[Tensor, "N K H W"], target: Float[Tensor, "N K H W"]) -> Float[Tensor, "N H W"]:
    """Cross entropy of each pixel with a distribution over the classes."""
    return -(target * logits.float().log_softmax(1)).sum(1)


def kl_divergence(logits: Float[Tensor, "N K H W"], target: Float[Tensor, "N K H W"]) -> Float[Tensor, "N H W"]:
    """Of each pixel, from the target to the prediction: the soft cross entropy minus the target's entropy."""
    return (torch.xlogy(target, target) - target * logits.float().log_softmax(1)).sum(1)


def mean_squared_error(logits: Float[Tensor, "N K H W"], target: Float[Tensor, "N K H W"]) -> Float[Tensor, "N H W"]:
    """Between probabilities, the mean over the classes of each pixel, as the mean teacher of CPS has it."""
    return (logits.float().softmax(1) - target).square().mean(1)


def squared_error(logits: Float[Tensor, "N K H W"], target: Float[Tensor, "N K H W"]) -> Float[Tensor, "N H W"]:
    """Between probabilities, the sum over the classes of each pixel, as CutMix-Seg has it."""
    return (logits.float().softmax(1) - target).square().sum(1)


def sigmoid_focal(
    logits: Float[Tensor, "N K H W"], label: Int[Tensor, "N H W"], *, alpha: float = 0.5, gamma: float = 0.5
) -> Float[Tensor, "N H W"]:
    """The sigmoid focal loss of each pixel, the mean over the classes, as in mmcv (Lin et al., arXiv 1708.02002).

    Powers are taken in the logarithm: the gradient of (1 - p)^0.5 as written is infinite where p rounds to 1.
    """
    logits = logits.float()
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    is_class = label.unsqueeze(1) == torch.arange(logits.shape[1], device=label.device).view(1, -1, 1, 1)
    positive = -alpha * (gamma * log_not_p).exp() * log_p
    negative = -(1 - alpha) * (gamma * log_p).exp() * log_not_p
    return torch.where(is_class, positive, negative).mean(1)


def average(
    loss: Float[Tensor, "N H W"],
    valid: Bool[Tensor, "N H W"],
    *,
    normalize: Normalize = "valid",
    weight: Float[Tensor, "N H W"] | None = None,
) -> Float[Tensor, ""]:
    """The weighted sum over the valid pixels by their number or that of all. 0 and connected if none is valid."""
    loss = torch.where(valid, loss, 0.0)
    total = (loss if weight is None else loss * weight).sum()
    return total / loss.numel() if normalize == "all" else total / count_over_workers(valid.sum())


def count_over_workers(count: Int[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean of a count over the workers, at least 1.

    Dividing by it makes the average of the workers' gradients that of the whole batch.
    """
    count = count.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return count.clamp(min=1.0)


def mean_over_workers(mean: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mean over the whole batch, from that over this worker's part; gradients lead to the part alone.

    Then the average of the workers' gradients is that of the whole batch, whatever is computed from the mean.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    total = mean.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size() + (mean - mean.detach())
