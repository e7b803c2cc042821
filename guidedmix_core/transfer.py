"""From the host to the device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device. CUDA reads pinned memory while the host goes on; from other memory it would make the host wait."""
    return (
        tensor.pin_memory().to(device, non_blocking=True)
        if device.type == "cuda" and not tensor.is_cuda
        else tensor.to(device)
    )
