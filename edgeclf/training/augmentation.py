"""Changes the images of training at random, after the preprocessing."""

from __future__ import annotations

from torchvision.transforms import v2


def augmentation(flips: str) -> v2.Transform:
    """Return the augmentation of full fine-tuning, which follows the preprocessing."""
    steps: list[v2.Transform] = []
    if flips in ("horizontal", "all"):
        steps.append(v2.RandomHorizontalFlip())
    if flips == "all":
        steps += [v2.RandomVerticalFlip(), v2.RandomApply([v2.RandomRotation((90, 90))])]
    steps += [
        v2.RandomAffine(degrees=0, translate=(0.05, 0.05), scale=(0.9, 1.1)),
        v2.ColorJitter(brightness=0.2, contrast=0.2),
    ]
    return v2.Compose(steps)
