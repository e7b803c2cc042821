"""Our batched strong view beside torchvision's operations in a loop over images: equal pictures, ratio of CPU time.

    python benchmarks/strong_view.py

torchvision takes one strength a call, we need one an image. Both are timed in turn in one process, on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from guidedmix_core.color import strong_view
from guidedmix_core.rng import generator
from guidedmix_core.sections import Augment

SETTINGS = Augment()
ROUNDS = 40


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'images':>16}  {'ours ms':>8}  {'loop ms':>8}  {'ratio':>6}  largest difference")
    for size in ((96, 96), (180, 240)):
        image = torch.rand(8, 3, *size, generator=generator(0, "image"))
        draws = torch.rand(8, 8, generator=generator(0, "draws"))
        ours, loop = medians(partial(strong_view, image, draws, SETTINGS), partial(looped, image, draws))
        difference = (strong_view(image, draws, SETTINGS) - looped(image, draws)).abs().max()
        print(f"{f'8 of {size[0]}x{size[1]}':>16}  {ours:8.1f}  {loop:8.1f}  {loop / ours:6.2f}  {difference:.1e}")


def looped(image: Tensor, draws: Tensor) -> Tensor:
    """The same view by torchvision, image by image."""
    views = []
    for view, draw in zip(image, draws.tolist(), strict=True):
        if draw[0] < SETTINGS.color_probability:
            view = tvf.adjust_contrast(tvf.adjust_brightness(view, 0.5 + draw[1]), 0.5 + draw[2])
            view = tvf.adjust_hue(tvf.adjust_saturation(view, 0.5 + draw[3]), 0.25 * (2 * draw[4] - 1))
        if draw[5] < SETTINGS.gray:
            view = tvf.rgb_to_grayscale(view, 3)
        if draw[6] < SETTINGS.blur:
            view = tvf.gaussian_blur(view, [13, 13], [0.1 + 1.9 * draw[7]] * 2)
        views.append(view)
    return torch.stack(views)


def medians(*calls: Callable[[], Tensor]) -> list[float]:
    """Milliseconds of this thread's CPU time, the calls taking turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, found in zip(calls, times, strict=True):
            start = time.thread_time()
            call()
            found.append(1000 * (time.thread_time() - start))
    return [sorted(found)[ROUNDS // 2] for found in times]


if __name__ == "__main__":
    main()
