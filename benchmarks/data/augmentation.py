"""Times the presets of augmentation, and the same steps by torchvision's own transforms.

    python3 benchmarks/data/augmentation.py [--image-size 224] [--images 300] [--json]

Method: one thread, as in a worker process of training.  Random images in uint8; each preset changes every image once, in turns.
Given are the median and the 90th percentile of the thread's processor time for an image, which other programs hardly change.

Exit code: 0.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from edgeclf.options import PRESETS, AugmentationOptions
from edgeclf.training.augmentation import augmentation


def changes(size: int) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Return what is timed, by name."""
    steps = [
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(degrees=0, translate=(0.05, 0.05), scale=(0.9, 1.1)),
        v2.ColorJitter(brightness=0.2, contrast=0.2),
    ]
    policies = {
        f"none, --policy {name}": augmentation(AugmentationOptions(augment="none", policy=name), size)
        for name in ("trivial", "randaugment")
    }
    cifar = AugmentationOptions(augment="none", crop_padding=4, flips="horizontal")
    return {
        **{name: augmentation(AugmentationOptions(augment=name), size) for name in PRESETS},
        "none, --crop-padding 4 --flips horizontal": augmentation(cifar, size),
        **policies,
        "photo by torchvision": v2.Compose(steps),
    }


def main() -> None:
    """Time every preset, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    size = arguments.image_size
    timed = changes(size)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(arguments.images + 10):
        image = torch.randint(0, 256, (size, size, 3), dtype=torch.uint8).permute(2, 0, 1)
        for name, change in timed.items():
            start = time.thread_time()
            change(image)
            seconds[name].append(time.thread_time() - start)
    rows = {
        name: {
            "ms": round(float(np.median(ones[10:])) * 1e3, 3),
            "p90_ms": round(float(np.quantile(ones[10:], 0.9)) * 1e3, 3),
        }
        for name, ones in seconds.items()
    }
    if arguments.json:
        print(json.dumps({"image_size": size, "machine": platform.processor() or platform.machine(), "presets": rows}))
        return
    for name, row in rows.items():
        print(f"{name:42} {row['ms']:7.3f} ms   p90 {row['p90_ms']:7.3f} ms")


if __name__ == "__main__":
    main()
