"""Values for each color channel, as options write them: a mean and a standard deviation."""

from __future__ import annotations

from ..errors import OptionError

Three = tuple[float, float, float]
"""A value for each of three channels."""
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of ImageNet's training images, RGB, values 0 to 1: the usual values of torchvision and timm."""


def channel_values(name: str, value: object) -> Three:
    """Return the three values that a mean or standard deviation in text stands for; OptionError for anything else."""
    parts = str(value).strip("()[]").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise OptionError(
            f"{name} is {value!r}; a number, three with commas between them, or imagenet was expected"
        ) from None
    if len(numbers) not in (1, 3):
        raise OptionError(f"{name} is {value!r}, {len(numbers)} numbers; one, or three with commas, was expected")
    if not all(abs(number) < 1e6 for number in numbers):
        raise OptionError(f"{name} is {value!r}; finite numbers were expected")
    if name == "std" and min(numbers) <= 1e-6:
        raise OptionError(f"std is {value!r}; numbers above 0 were expected, since pixels are divided by them")
    first, second, third = numbers * (3 // len(numbers))
    return first, second, third


def unit_values(name: str, value: object) -> Three:
    """Return channel_values() for pixels from 0 to 1."""
    values = IMAGENET[name] if value == "imagenet" else channel_values(name, value)
    if not 0 <= min(values) <= max(values) <= 1:
        divided = ",".join(f"{number / 255:.3g}" for number in values)
        hint = f"; if it is for pixels from 0 to 255, divide it by 255: {divided}" if min(values) >= 0 else ""
        raise OptionError(f"{name} is {value!r}; 0 to 1 was expected, since pixels are 0 to 1 here{hint}")
    return values
