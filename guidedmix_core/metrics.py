"""Counts per image and class, and what follows from their sums. mIoU is a ratio of sums, never a mean over images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from guidedmix_core.batch import IGNORE

TP, FP, FN = range(3)
METRICS = (
    "val/miou",
    "val/accuracy",
    *(f"pseudo/{name}" for name in ("coverage", "precision", "recall", "target_accuracy", "plain_accuracy")),
)
"""What an evaluation reports; `pseudo/` if the method makes pseudo masks and their truth is known."""
BY_CLASS = ("val/iou/", "pseudo/precision/", "pseudo/recall/")
"""And of each class, whose name follows."""


def count(prediction: Int[Tensor, "N H W"], truth: Int[Tensor, "N H W"], num_classes: int) -> Int64[Tensor, "N K 3"]:
    """True positives, false positives and false negatives of each class in each image; ignored pixels count nowhere."""
    num_images = len(truth)
    image = torch.arange(num_images, device=truth.device).view(-1, 1, 1)
    judged = truth != IGNORE
    cell = (image * num_classes + truth.where(judged, 0)) * num_classes + prediction
    cell = cell.where(judged, num_images * num_classes**2)  # the ignored ones share one cell past the end
    confusion = torch.bincount(cell.flatten(), minlength=num_images * num_classes**2 + 1)[:-1]
    confusion = confusion.unflatten(0, (num_images, num_classes, num_classes))  # N, truth, prediction
    hit = confusion.diagonal(dim1=1, dim2=2)
    return torch.stack([hit, confusion.sum(1) - hit, confusion.sum(2) - hit], dim=2)


def class_iou(counts: Int64[np.ndarray, "N K 3"]) -> Float64[np.ndarray, "K"]:
    """IoU of each class over the whole set; NaN for a class that occurs in neither prediction nor truth."""
    total = counts.sum(0)
    union = total.sum(1)
    return np.divide(total[:, TP], union, out=np.full(len(total), np.nan), where=union > 0)


def mean_iou(counts: Int64[np.ndarray, "N K 3"]) -> float:
    """The mean over classes that occur in prediction or truth; an absent class is left out, not counted as zero."""
    iou = class_iou(counts)
    return float(iou[~np.isnan(iou)].mean()) if not np.isnan(iou).all() else float("nan")


def pixel_accuracy(counts: Int64[np.ndarray, "N K 3"]) -> float:
    """The share of judged pixels that are right."""
    total = counts.sum((0, 1))
    return float(total[TP] / (total[TP] + total[FN])) if total[TP] + total[FN] else float("nan")


def evaluation_metrics(counts: Int64[np.ndarray, "N K 3"], names: tuple[str, ...]) -> dict[str, float]:
    """`val/miou`, `val/accuracy` and `val/iou/<class>`, whichever part was evaluated."""
    classes = {f"val/iou/{name}": float(iou) for name, iou in zip(names, class_iou(counts), strict=True)}
    return {"val/miou": mean_iou(counts), "val/accuracy": pixel_accuracy(counts), **classes}


class PseudoQuality:
    """Sums over images of how right the taught pseudo masks are, kept on the device until read."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.sums = torch.zeros(
            num_classes, 4, device=device, dtype=torch.int64
        )  # truth, claimed and kept, right and kept, right
        self.plain_right = torch.zeros((), device=device, dtype=torch.int64)

    def add(
        self,
        claimed: Int[Tensor, "U H W"],
        kept: Bool[Tensor, "U H W"],
        plain: Int[Tensor, "U H W"],
        truth: Int[Tensor, "U H W"],
    ) -> None:
        """One batch of pseudo masks against the withheld truth."""
        judged = truth != IGNORE
        right = judged & (claimed == truth)
        for column, (region, label) in enumerate(
            ((judged, truth), (judged & kept, claimed), (right & kept, claimed), (right, claimed))
        ):
            bins = torch.bincount(label.where(region, self.num_classes).flatten(), minlength=self.num_classes + 1)
            self.sums[:, column] += bins[: self.num_classes]
        self.plain_right += (judged & (plain == truth)).sum()

    def metrics(self, names: tuple[str, ...]) -> dict[str, float]:
        """Coverage, precision and recall of the kept pixels, by class too, and the accuracy of target and plain
        prediction everywhere."""
        sums = self.sums.tolist()
        truth, claimed, right_kept, right = self.sums.sum(0).tolist()
        metrics = {
            "pseudo/coverage": _share(claimed, truth),
            "pseudo/precision": _share(right_kept, claimed),
            "pseudo/recall": _share(right_kept, truth),
            "pseudo/target_accuracy": _share(right, truth),
            "pseudo/plain_accuracy": _share(int(self.plain_right), truth),
        }
        for name, (truth, claimed, right_kept, _) in zip(names, sums, strict=True):
            metrics[f"pseudo/precision/{name}"] = _share(right_kept, claimed)
            metrics[f"pseudo/recall/{name}"] = _share(right_kept, truth)
        return metrics


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
