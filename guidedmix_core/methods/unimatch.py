"""UniMatch: two strong views, and features perturbed. Yang et al., CVPR 2023, arXiv 2208.09910.

Checked against the released code; `fixmatch.py` has the algorithm.
"""

from __future__ import annotations

from guidedmix_core.methods.fixmatch import FeatureWeight, FixMatch, StrongViews, StrongWeight


class UniMatch(FixMatch):
    """FixMatch with a second strong view and a term of perturbed features."""

    strong_views: StrongViews = 2
    strong_weight: StrongWeight = 0.125
    feature_weight: FeatureWeight = 0.25
