"""Baseline, what training images look like: limits of each measure, the mean layout, and the mix of predicted labels."""

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ...files.schema import JsonObject, SchemaError, constant, integer, list_of, number, record
from .layout import PLACEMENT, Layout, fit_layout
from .measures import BLOCKS, MEASURES, SIDE

if TYPE_CHECKING:
    import numpy as np

    from .measures import Measures

FILE = "health.json"  # in a bundle
VERSION = 1
MOST_LABELS = 1000  # with more there is no mix of labels: they would not fit
MOST_BYTES = 32 << 10
LEAST_IMAGES = 20
# What no camera keeps constant, in the measure's unit; differences below it are never reported.
_FLOORS = {
    "brightness": 3.0,
    "clipped": 0.02,
    "contrast": 0.03,
    "sharpness": 0.02,
    "noise": 0.5,
    "warmth": 0.06,
    "green": 0.04,
    "saturation": 0.04,
    "shift-x": 0.8,
    "shift-y": 0.8,
    "rotation": 1.0,
    "zoom": 1.0,
    "layout": 0.25,
    "covered": 0.05,
}
NAMES = MEASURES + PLACEMENT
# What light and noise do not change; the mean of a few images has narrower limits than a single image.
STEADY = ("sharpness",) + PLACEMENT
_NEAR, _FAR = (0.03, 0.97), (0.002, 0.998)
_NEAR_TOGETHER = (0.002, 0.998)
# Added to the far range on each side, as a ratio of that of single images without the outermost.
_WIDER, _WIDER_STEADY = 0.25, 0.5
TOGETHER = 10  # images whose mean is compared
_DRAWS = 2000
_PER_LABEL = (0.25, 0.75)
_LEAST_PER_LABEL = 20


class Limits(NamedTuple):
    """A measure's limits, [low, high].

    near    beyond it lie the outermost 3 % of training images on each side, or less
    far     beyond it lies none of them
    """

    near: Tuple[float, float]
    far: Tuple[float, float]


class Baseline(NamedTuple):
    """The training images' limits, layout and results.

    images      number of images that it was made of
    limits      the Limits of each of NAMES
    layout      a Layout
    labels      the share of each predicted label on validation images, or None
    low         a confidence that few of these fall below, and the share that does; or None
    """

    images: int
    limits: Dict[str, Limits]
    layout: Layout
    labels: Optional[Tuple[float, ...]] = None
    low: Optional[Tuple[float, float]] = None

    def to_dict(self) -> JsonObject:
        """Return the baseline as health.json holds it."""
        layout = self.layout
        found: Dict[str, Any] = {
            "version": VERSION,
            "images": self.images,
            "limits": {name: {"near": list(one.near), "far": list(one.far)} for name, one in self.limits.items()},
            "layout": {
                "mean": _rounded(layout.mean),
                "spread": _rounded(layout.spread),
                "detail_mean": _rounded(layout.detail_mean),
                "detail_spread": _rounded(layout.detail_spread),
            },
        }
        if self.labels is not None:
            found["labels"] = [round(share, 5) for share in self.labels]
        if self.low is not None:
            found["low"] = [round(one, 5) for one in self.low]
        return found


def _rounded(values: "np.ndarray") -> List[float]:
    return [round(float(value), 3) for value in values]


_RANGE = list_of(number(-1e6, 1e6), 2, 2)
_LAYOUT, _DETAIL = (list_of(number(-1e3, 1e3), side * side, side * side) for side in (SIDE, BLOCKS))
SCHEMA = record(
    {
        "version": constant(VERSION),
        "images": integer(1),
        "limits": record({name: record({"near": _RANGE, "far": _RANGE}) for name in NAMES}),
        "layout": record({"mean": _LAYOUT, "spread": _LAYOUT, "detail_mean": _DETAIL, "detail_spread": _DETAIL}),
        "labels": list_of(number(0, 1), 1, MOST_LABELS),
        "low": list_of(number(0, 1), 2, 2),
    },
    optional=("labels", "low"),
)


def parse_baseline(value: Any, labels: Optional[int] = None) -> Baseline:
    """Return the Baseline of a parsed health.json; SchemaError if it is not one, or not for so many labels."""
    SCHEMA(value, "")
    mix, low = value.get("labels"), value.get("low")
    if mix is not None and labels is not None and len(mix) != labels:
        raise SchemaError("labels is a list of {}; a list of {} was expected".format(len(mix), labels))
    limits = {name: Limits(tuple(one["near"]), tuple(one["far"])) for name, one in value["limits"].items()}
    for name, one in limits.items():
        if not one.far[0] <= one.near[0] <= one.near[1] <= one.far[1]:
            raise SchemaError("limits.{} is {}; near inside far was expected".format(name, list(one)))
    return Baseline(
        value["images"],
        limits,
        Layout(**value["layout"]),
        None if mix is None else tuple(mix),
        None if low is None else (low[0], low[1]),
    )


def fit_baseline(
    measured: "Sequence[Measures]",
    groups: Optional[Sequence[object]] = None,
    labels: Optional[Sequence[float]] = None,
    low: Optional[Tuple[float, float]] = None,
) -> Baseline:
    """Return the Baseline of training images' Measures, LEAST_IMAGES or more.

    groups      each image's label; a site may see one label for hours, which is no reason for an alarm
    """
    import numpy as np

    layout = fit_layout(measured)
    groups = list(groups or [0] * len(measured))
    members = [np.flatnonzero([one == group for one in groups]) for group in sorted(set(groups), key=str)]
    single = np.array([np.concatenate([one.values, layout.compare(one.layout, one.detail)]) for one in measured])
    together = _means_together(measured, layout, members)
    limits = {}
    for column, name in enumerate(NAMES):
        values = single[:, column]
        near = np.quantile(together[:, column], _NEAR_TOGETHER) if name in STEADY else _widest(values, members)
        limits[name] = limits_of(name, (near[0], near[1]), values)
    return Baseline(len(measured), limits, layout, None if labels is None else tuple(labels), low)


def limits_of(name: str, near: "Sequence[float]", values: "np.ndarray") -> Limits:
    """Return a measure's Limits: a range, widened by what no camera keeps constant, and the values of all images."""
    import numpy as np

    floor = _FLOORS[name]
    low, high = float(near[0]) - floor, float(near[1]) + floor
    first, last = np.quantile(values, _FAR)
    inner = np.quantile(values, _NEAR)
    more = floor + (_WIDER_STEADY if name in STEADY else _WIDER) * max(float(inner[1] - inner[0]), high - low)
    far = min(float(first), low) - more, max(float(last), high) + more
    return Limits((round(low, 4), round(high, 4)), (round(far[0], 4), round(far[1], 4)))


def _widest(values: "np.ndarray", members: "Sequence[np.ndarray]") -> Tuple[float, float]:
    """Return the range of all images but the outermost, and of the middle half of each label's."""
    import numpy as np

    ranges = [np.quantile(values, _NEAR)]
    ranges += [np.quantile(values[one], _PER_LABEL) for one in members if len(one) >= _LEAST_PER_LABEL]
    return float(min(one[0] for one in ranges)), float(max(one[1] for one in ranges))


def _means_together(measured: "Sequence[Measures]", layout: Layout, members: "Sequence[np.ndarray]") -> "np.ndarray":
    """Return the mean values of a few images of the same label, in the order of NAMES, [draws, NAMES]."""
    import numpy as np

    random = np.random.RandomState(0)
    found = []
    for one in members:
        for _ in range(max(_DRAWS // len(members), 10)):
            chosen = [measured[index] for index in random.choice(one, TOGETHER)]
            means = [np.mean([getattr(each, name) for each in chosen], 0) for name in ("values", "layout", "detail")]
            found.append(np.concatenate([means[0], layout.compare(means[1], means[2])]))
    return np.array(found)
