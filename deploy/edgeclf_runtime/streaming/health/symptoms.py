"""Symptoms: what is unusual about a block of images, in order of precedence, and the words for it.

One fault shows in several measures: darkness hides details, and dirt changes the layout.  The first in the order names it.
"""

from typing import TYPE_CHECKING, Callable, Dict, NamedTuple, Tuple

from .baseline import NAMES

if TYPE_CHECKING:
    import numpy as np

    from .baseline import Baseline

LOW, HIGH = 0, 1
FROZEN, COVERED, UNKNOWN, MIX = "frozen", "covered", "new kind of image", "label mix changed"


class Sign(NamedTuple):
    """A measure that is lower (LOW) or higher (HIGH) than training images have it."""

    measure: str
    side: int


def _both(*names: str) -> "Tuple[Sign, ...]":
    return tuple(Sign(name, side) for name in names for side in (LOW, HIGH))


# Any of the signs is enough; for "covered" there is one more condition.
SIGNS: "Dict[str, Tuple[Sign, ...]]" = {
    COVERED: (Sign("brightness", LOW),),
    "dark": (Sign("brightness", LOW),),
    "overexposed": (Sign("clipped", HIGH), Sign("brightness", HIGH)),
    "without color": (Sign("saturation", LOW),),
    "color cast": _both("warmth", "green"),
    "noisy": (Sign("noise", HIGH),),
    "dirty or covered": (Sign("covered", HIGH), Sign("contrast", LOW)),
    "moved": _both("shift-x", "shift-y", "rotation", "zoom") + (Sign("layout", HIGH),),
    "blurred": (Sign("sharpness", LOW),),
}
STEADY = ("dirty or covered", "moved", "blurred")
ORDER = (FROZEN,) + tuple(SIGNS) + (UNKNOWN, MIX)
_BLACK = 2.0  # levels: a picture with less contrast shows nothing
_GRAY = 0.08  # saturation: all colors are gone, not only another light
_PATCH, _SOME_PATCH = 0.4, 0.15  # coherence of the difference: surely dirt, and dirt if details are lost, too
_MOST_STOPS = 20.0


def _ratio(stops: float) -> str:
    """Return a log2 as the ratio that it is; a damaged baseline may have one that no number holds."""
    return "{:.2f}".format(2 ** max(min(stops, _MOST_STOPS), -_MOST_STOPS))


# The unit and the precision of each measure, for people: its name, and a function that shows a value.
_percent: "Callable[[float], str]" = "{:.0f} %".format
_SHOWN: "Dict[str, Tuple[str, Callable[[float], str]]]" = {
    "brightness": ("the mean brightness (0 to 255)", "{:.0f}".format),
    "clipped": ("the share of overexposed pixels", lambda value: "{:.0f} %".format(100 * value)),
    "contrast": ("the contrast", "{:.2f}".format),
    "sharpness": ("the sharpness", "{:.2f}".format),
    "noise": ("the noise in levels", "{:.1f}".format),
    "warmth": ("red against blue", _ratio),
    "green": ("green against red and blue", _ratio),
    "saturation": ("the saturation", "{:.2f}".format),
    "shift-x": ("the shift to the right", _percent),
    "shift-y": ("the downward shift", _percent),
    "rotation": ("the clockwise rotation in degrees", "{:.0f}".format),
    "zoom": ("the zoom", _percent),
    "layout": ("the difference in layout (log2)", "{:.1f}".format),
    "covered": ("the part without its usual detail", lambda value: "{:.0f} %".format(100 * value)),
}


def outside(values: "np.ndarray", coherence: float, baseline: "Baseline", near: bool) -> "Dict[str, Sign]":
    """Return by verdict the sign that is there, for a block's values in the order of NAMES.

    coherence   that of the layout's difference, see Layout
    near        whether the near limits count, because the block has several contents; otherwise only the far ones
    """
    found = {}
    for verdict, signs in SIGNS.items():
        seen = [sign for sign in signs if _is_outside(values, baseline, sign, near)]
        if seen:
            found[verdict] = seen[0]
    by_name = dict(zip(NAMES, values))
    if by_name["contrast"] * (by_name["brightness"] + 16.0) >= _BLACK:
        found.pop(COVERED, None)
    elif COVERED in found:
        return {COVERED: found[COVERED]}
    if by_name["saturation"] >= _GRAY:
        found.pop("without color", None)
    found = _with_dirt_or_movement(found, coherence)
    # A cast and dirt also take some light.
    is_dim = by_name["brightness"] >= baseline.limits["brightness"].far[LOW]
    if is_dim and ("color cast" in found or "dirty or covered" in found):
        found.pop("dark", None)
    return found


def _with_dirt_or_movement(found: "Dict[str, Sign]", coherence: float) -> "Dict[str, Sign]":
    """Return the signs with those of dirt, of a movement and of blur told apart: each changes layout, details and contrast."""
    found = dict(found)
    dirt, movement = found.get("dirty or covered"), found.get("moved")
    if movement is not None and (coherence >= _PATCH or (dirt is not None and coherence >= _SOME_PATCH)):
        found["dirty or covered"] = dirt or movement
        del found["moved"]
    elif dirt is not None and (movement is not None or (dirt.measure == "contrast" and "blurred" in found)):
        del found["dirty or covered"]
    return found


def _is_outside(values: "np.ndarray", baseline: "Baseline", sign: Sign, near: bool) -> bool:
    limits = baseline.limits[sign.measure]
    limit = (limits.near if near else limits.far)[sign.side]
    value = values[NAMES.index(sign.measure)]
    return bool(value < limit if sign.side == LOW else value > limit)


def describe(values: "np.ndarray", baseline: "Baseline", sign: Sign) -> str:
    """Return a sign in words, with its figure and the baseline's."""
    name, show = _SHOWN[sign.measure]
    low, high = baseline.limits[sign.measure].near
    value = values[NAMES.index(sign.measure)]
    return "{} is {}, usual is {} to {}".format(name, show(value), show(low), show(high))
