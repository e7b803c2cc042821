"""ClassMix: mean teacher, mixed by half of the predicted classes. Olsson et al., WACV 2021, arXiv 2007.07936.

The released code changes colors after mixing, one strength for both parts; here each part brings its own.
"""

from __future__ import annotations

from guidedmix_core.methods._teacher import Covered, Evaluated, TeacherMode, Threshold
from guidedmix_core.methods.mean_teacher import MeanTeacher, Mixer, Normalized


class ClassMix(MeanTeacher):
    """Half the classes that the teacher sees in one image are pasted onto another, with what it claims of them."""

    cover: Covered = "params"
    teacher_mode: TeacherMode = "train"
    threshold: Threshold = 0.968
    joint_batch: bool = False
    mixer: Mixer = "classmix"
    normalize: Normalized = "fraction"
    evaluate: Evaluated = "student"
