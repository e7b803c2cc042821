"""MITrans, the mutual information transfer of GuidedMix-Net. Tu et al., AAAI 2022, arXiv 2112.14015.

The block is that of the released code, which switches it off in every configuration. It is self-attention on one map:
labeled and unlabeled content meet in it because both lie in the mixed map.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from guidedmix_core.modules.conv import Norm, conv_block
from guidedmix_core.modules.non_local import NonLocal


class MITransBlock(nn.Module):
    """conv, non-local block, conv, joined with the input by a third conv. It does not start as the identity."""

    def __init__(self, in_channels: int, channels: int, norm: Norm = "none") -> None:
        super().__init__()
        self.first = conv_block(in_channels, channels, norm=norm)
        self.non_local = NonLocal(channels, norm)
        self.second = conv_block(channels, channels, norm=norm)
        self.fuse = conv_block(in_channels + channels, channels, norm=norm)

    def forward(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N E h w"]:
        refined = self.second(self.non_local(self.first(feature)))
        return self.fuse(torch.cat([feature, refined], dim=1))


class ReZero(nn.Module):
    """`x + gamma * block(x)`, gamma starting at 0: the identity. Bachlechner et al., arXiv 2003.04887."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        return feature + self.gamma * self.block(feature)


class MITrans(nn.Module):
    """A chain of `depth` blocks. Depth 0 is absence: no parameter, no state, and the very map comes back."""

    def __init__(
        self, channels: int, depth: int, *, residual: Literal["none", "rezero"] = "none", norm: Norm = "none"
    ) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"depth={depth}: expected 0 (absent) or more blocks")
        blocks = (MITransBlock(channels, channels, norm) for _ in range(depth))
        self.blocks = nn.ModuleList(ReZero(block) if residual == "rezero" else block for block in blocks)

    def forward(self, feature: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        for block in self.blocks:
            feature = block(feature)
        return feature

    def gammas(self) -> list[Float[Tensor, ""]]:
        """How far each block has moved from the identity, detached; none without `residual: rezero`."""
        return [block.gamma.detach() for block in self.blocks if isinstance(block, ReZero)]
