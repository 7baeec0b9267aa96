import numpy as np
import pytest

from edgeclf.graph.int8.histograms import Histogram
from edgeclf.graph.int8.ranges import METHODS, PERCENTILE


def histogram(values):
    found = Histogram()
    for turn, part in enumerate(np.array_split(np.asarray(values, np.float32), max(1, len(values) // 4096))):
        found.add(part, turn)
    return found


@pytest.fixture(scope="module")
def outliers():
    """A normal distribution and, a hundred times as far out, three values of 200,000."""
    values = np.random.RandomState(0).randn(200_000)
    values[::70_000] = 100
    return values


def error(values, low, high):
    """The mean squared error of 256 steps from low to high."""
    step = (high - low) / 255
    found = np.clip(np.round((values - low) / step), 0, 255) * step + low
    return np.square(found - values).mean()


@pytest.mark.parametrize("method", METHODS)
def test_a_range_lies_within_what_was_seen_and_holds_most_of_it(outliers, method):
    low, high = METHODS[method](histogram(outliers))
    assert outliers.min() - 1e-3 <= low < -1.5
    assert 1.5 < high <= 100
    assert ((outliers >= low) & (outliers <= high)).mean() > 0.9


def test_minmax_cuts_nothing_off(outliers):
    assert METHODS["minmax"](histogram(outliers)) == (pytest.approx(outliers.min()), 100)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_outliers_are_cut_off(outliers, method):
    assert METHODS[method](histogram(outliers))[1] < 10


def test_percentile_cuts_the_same_share_off_either_end():
    values = np.random.RandomState(1).rand(400_000) * 10 - 5
    low, high = METHODS["percentile"](histogram(values))
    assert (values < low).mean() + (values > high).mean() == pytest.approx(1 - PERCENTILE, abs=5e-4)


def test_mse_has_the_smallest_error_of_all_limits():
    values = np.random.RandomState(2).standard_t(3, 200_000)
    found = error(values, *METHODS["mse"](histogram(values)))
    for limit in np.linspace(2, np.abs(values).max(), 40):
        low, high = max(-limit, values.min()), min(limit, values.max())
        assert found < 1.03 * error(values, low, high)
    assert found < 0.8 * error(values, values.min(), values.max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 6.0, -2.0])
def test_a_tensor_of_one_value_has_a_range_that_holds_it(method, value):
    low, high = METHODS[method](histogram([value] * 50))
    assert low <= value <= high + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_what_is_never_negative_gets_no_negative_steps(method):
    values = np.maximum(np.random.RandomState(3).randn(50_000), 0)
    assert METHODS[method](histogram(values))[0] >= 0
