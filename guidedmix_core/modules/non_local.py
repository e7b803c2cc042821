"""The embedded-Gaussian non-local block. Wang et al., CVPR 2018, arXiv 1711.07971; as in MMCV's NonLocal2d."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from guidedmix_core.modules.conv import Norm, normalization, point_conv


class NonLocal(nn.Module):
    """`x + Wo(softmax(theta(x)^T phi(x) / sqrt(C/2)) g(x))`, computed as attention with one head of width C/2.

    The last layer starts at zero, so the block starts as the identity.
    """

    def __init__(self, channels: int, norm: Norm = "none") -> None:
        super().__init__()
        self.theta, self.phi, self.g = (point_conv(channels, channels // 2) for _ in range(3))
        self.out = nn.Sequential(
            nn.Conv2d(channels // 2, channels, 1, bias=norm == "none"), normalization(norm, channels)
        )
        for parameter in self.out[0 if norm == "none" else 1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        theta, phi, g = (embed(feature).flatten(2).mT.unsqueeze(1) for embed in (self.theta, self.phi, self.g))
        mixed = F.scaled_dot_product_attention(theta, phi, g)  # its default scale is 1 / sqrt(C/2)
        return feature + self.out(mixed.squeeze(1).mT.unflatten(2, feature.shape[2:]))
