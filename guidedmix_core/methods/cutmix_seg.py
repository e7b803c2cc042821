"""CutMix-Seg: mean teacher on two mixed draws. French et al., BMVC 2020, arXiv 1906.01916.

    x  = paste(box; x_b onto x_a),  p = paste(box; teacher(x_b) onto teacher(x_a))
    L  = CE(student(x_l), y_l) + share of confident pixels * mean over pixels of |softmax student(x) - p|^2

The released code freezes BatchNorm in both networks; a teacher in evaluation mode is the nearest thing here.
"""

from __future__ import annotations

from guidedmix_core.methods._teacher import Threshold
from guidedmix_core.methods.mean_teacher import Loss, MeanTeacher, Normalized, Partner, Strong
from guidedmix_core.mixing import CutMix


class CutMixSeg(MeanTeacher):
    """Consistency of probabilities on weak views of two independent draws, mixed by a box of half the image."""

    ramp_decay: bool = False
    threshold: Threshold = 0.97
    joint_batch: bool = False
    strong: Strong = False
    partner: Partner = "second_draw"
    cutmix: CutMix = CutMix(area=(0.5, 0.5), aspect="fitting", probability=1.0)
    loss: Loss = "sse"
    normalize: Normalized = "fraction"
