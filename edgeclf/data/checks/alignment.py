"""Aligns two thumbnails, and measures the difference that is left.

They are aligned by a shift, a width and a height: first to whole pixels of half-size thumbnails, by normalized
cross-correlation, then by Gauss-Newton steps that fit gain and offset of the brightness too (Baker and Matthews, Lucas-Kanade
20 Years On, 2004: the inverse compositional algorithm).
"""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from .neighbors import ZOOM, zoomed
from .thumbnails import COLOR_SIDE, NEUTRAL, SIDE, Thumbnail

ALIKE = 0.99
"""Least likeness of near-duplicates; benchmarks/NOTES.md has the figures that it was chosen by."""
_BLUR = 1.0
"""Standard deviation in pixels: what is finer depends on the filter that a resize used."""
_COARSE = 32
_SHIFT = 2
"""Largest shift of the coarse search in its pixels: 6 % of the image."""
_LEAST_FIT = 0.3
_STEPS = 6
_MARGIN = 5
"""Pixels at the border that the steps leave out, since the other image may not have them."""
_FARTHEST = 0.1
"""An alignment that moves or enlarges by more of the side has gone astray."""
_SATURATED = 248
_LEAST_SEEN = 0.25
_WINDOW = 7
_NOISE = 4.0
"""Variance of noise in a window, in gray levels squared; without it, plain regions would have to be equal."""
_NOISE_SHARE = 0.01
_COLOR_WINDOW = 3
_COLOR_DIFFERENCE = 40.0
"""Largest difference in color of near-duplicates, of 255, in their worst window."""
_CENTER = (SIDE - 1) / 2
_X = np.tile(np.arange(SIDE, dtype=np.float32) - _CENTER, (SIDE, 1))
_STARTS = (("details", "details", 1.0), ("details_zoomed", "details", 1 / ZOOM), ("details", "details_zoomed", ZOOM))


class Aligner:
    """A thumbnail and what is computed from it once to align others with it."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self.color = thumbnail.color
        pixels = thumbnail.gray.astype(np.float32)
        self.gray = cv2.GaussianBlur(pixels, (0, 0), _BLUR)
        self.brightest = _brightest(thumbnail, self.gray)
        """The brightest of a pixel's three channels, the first that a camera or an editor cuts off."""
        half = cv2.resize(pixels, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        self.details = half - cv2.GaussianBlur(half, (0, 0), 4)
        self.details_zoomed = zoomed(self.details)

    @cached_property
    def inner(self) -> np.ndarray:
        """Indices of the pixels that the steps look at."""
        inside = np.zeros(self.gray.shape, bool)
        inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
        exact = inside & (self.brightest < _SATURATED)
        return np.flatnonzero(exact if exact.mean() > _LEAST_SEEN else inside)

    @cached_property
    def solver(self) -> np.ndarray:
        """Matrix from another image's inner pixels to shift and enlargement (times gain), gain and offset: float32 [6, N]."""
        across, down = (cv2.Sobel(self.gray, cv2.CV_32F, x, 1 - x, ksize=3) / 8 for x in (1, 0))
        columns = (across, down, across * _X, down * _X.T, self.gray, np.ones_like(self.gray))
        terms = np.stack([column.reshape(-1)[self.inner] for column in columns])
        # Not by BLAS, whose threads take longer to start than such a product does.
        normal = np.einsum("ik,jk->ij", terms, terms).astype(np.float64)
        # An image may not show how far it is moved, such as one of stripes.
        normal[np.diag_indices(6)] += [1e-2 * len(self.inner)] * 4 + [1e-6] * 2
        return np.einsum("ij,jk->ik", np.linalg.inv(normal).astype(np.float32), terms)


def _brightest(thumbnail: Thumbnail, blurred: np.ndarray) -> np.ndarray:
    if thumbnail.color is None:
        return blurred
    color = cv2.resize(thumbnail.color, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    channels = cv2.cvtColor(np.dstack([thumbnail.gray, color]), cv2.COLOR_YCrCb2BGR)
    return cv2.GaussianBlur(channels.max(2).astype(np.float32), (0, 0), _BLUR)


def likeness(first: Aligner, second: Aligner) -> float:
    """Return how alike two images are: 1 if they are equal, -1 if they cannot be aligned.

    1 minus the mean squared difference in a window, relative to the variances of both there, in the mean of all windows; so a small
    difference counts as much in a plain region as a large one among details.  Brightness and contrast do not count; color
    does, if both have color.
    """
    # The steps leave out what is saturated in the first.
    if first.brightest.mean() < second.brightest.mean():
        first, second = second, first
    fit, shift, scale = _coarse(first, second)
    matrix = _refined(first, second, shift, scale) if fit >= _LEAST_FIT else None
    if matrix is None:
        return -1.0
    moved, both = _warped(second.gray, matrix), _seen_by_both(matrix)
    alike = _alike(first.gray, moved, both)
    if alike < ALIKE and max(first.brightest.max(), second.brightest.max()) >= _SATURATED:
        # Perhaps one of them is saturated where the other is not.
        brightest = np.maximum(first.brightest, _warped(second.brightest, matrix))
        alike = max(alike, _alike(first.gray, moved, both & (brightest < _SATURATED)))
    if alike >= ALIKE and first.color is not None and second.color is not None:
        gain = float(first.gray.std() / (moved.std() + 1e-3))
        if _color_difference(first.color, second.color, gain, matrix) > _COLOR_DIFFERENCE:
            return -1.0
    return alike


def _coarse(first: Aligner, second: Aligner) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the correlation, shift and enlargement, (x, y) each, that fit best of a few."""
    best, shift, scale = -2.0, (0.0, 0.0), 1.0
    core = slice(_SHIFT, -_SHIFT)
    for mine, theirs, enlarged in _STARTS:
        fits = cv2.matchTemplate(getattr(second, theirs), getattr(first, mine)[core, core], cv2.TM_CCOEFF_NORMED)
        _, fit, _, (x, y) = cv2.minMaxLoc(fits)
        if fit > best:
            unit = SIDE / _COARSE * min(enlarged, 1.0)
            best, shift, scale = fit, ((x - _SHIFT) * unit, (y - _SHIFT) * unit), enlarged
    return best, np.array(shift), np.array((scale, scale))


def _refined(first: Aligner, second: Aligner, shift: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """Return the matrix from the first's pixels to the second's, float32 [2, 3], or None if they do not fit."""
    for _ in range(_STEPS):
        pixels = _warped(second.gray, _matrix(shift, scale)).reshape(-1)[first.inner]
        found = np.einsum("ij,j->i", first.solver, pixels)
        if found[4] <= 0:
            return None
        step = np.clip(found[:4] / found[4], (-2, -2, -0.04, -0.04), (2, 2, 0.04, 0.04))
        shift = shift - scale * step[:2]
        scale = scale * (1 - step[2:])
        if np.abs(shift).max() > _FARTHEST * SIDE or np.abs(scale - 1).max() > _FARTHEST:
            return None
        if max(np.abs(step[:2]).max(), np.abs(step[2:]).max() * _CENTER) < 0.02:
            break
    return _matrix(shift, scale)


def _matrix(shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
    offset = _CENTER * (1 - scale) + shift
    return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]], np.float32)


def _warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    # Linear interpolation would blur by an amount that depends on the shift.
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, image.shape[:2], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _seen_by_both(matrix: np.ndarray) -> np.ndarray:
    """Return which pixels of the first thumbnail the second one has too, bool [SIDE, SIDE]."""
    at = np.arange(SIDE)
    columns, rows = (
        (at > 0) & (at < SIDE - 1) & (found > 0) & (found < SIDE - 1)
        for found in (matrix[0, 0] * at + matrix[0, 2], matrix[1, 1] * at + matrix[1, 2])
    )
    return columns & rows[:, None]


def _alike(first: np.ndarray, second: np.ndarray, usable: np.ndarray) -> float:
    """Return 1 minus the mean residual of a window relative to its variance; -1 if too few pixels are usable."""
    # Blurring mixed the pixels with those beside them.
    seen = cv2.erode(usable.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    pixels = float(seen.sum())
    if pixels < _LEAST_SEEN * seen.size:
        return -1.0
    one = (first - np.vdot(seen, first) / pixels) * seen
    other = (second - np.vdot(seen, second) / pixels) * seen
    energy = float(np.vdot(one, one))
    other *= np.vdot(one, other) / (np.vdot(other, other) + 1e-6)
    share = cv2.boxFilter(seen, -1, (_WINDOW, _WINDOW)) + 1e-6

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (_WINDOW, _WINDOW)) / share

    variance = np.maximum(mean(one * one + other * other) - mean(one) ** 2 - mean(other) ** 2, 0)
    residual = mean((one - other) ** 2) / (variance + _NOISE + _NOISE_SHARE * energy / pixels)
    return 1 - float(residual[seen * share > 0.5].mean())


def _color_difference(first: np.ndarray, second: np.ndarray, gain: float, matrix: np.ndarray) -> float:
    """Return the root mean square difference of the chrominance in the worst window, of 255."""
    scales = matrix[:, :2].sum(1)
    # Pixels are numbered by their centers, so a scale moves them too.
    offset = (matrix[:, 2] - (1 - scales) / 2) * COLOR_SIDE / SIDE + (1 - scales) / 2
    moved = _warped(second, np.column_stack([matrix[:, :2], offset]))
    difference = (first.astype(np.float32) - NEUTRAL) - gain * (moved.astype(np.float32) - NEUTRAL)
    border = 1 + int(np.ceil(np.abs(matrix[:, 2]).max() * COLOR_SIDE / SIDE))
    squares = cv2.boxFilter((difference**2).sum(2), -1, (_COLOR_WINDOW, _COLOR_WINDOW))
    return float(np.sqrt(squares[border:-border, border:-border].max()))
