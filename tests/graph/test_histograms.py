import numpy as np
import pytest

from edgeclf.graph.int8.histograms import BINS, SAMPLE, Histogram


def counted(*tensors):
    histogram = Histogram()
    for turn, values in enumerate(tensors):
        histogram.add(np.array(values, np.float32), turn)
    return histogram


def test_every_value_lies_in_the_bin_of_its_size():
    values = [-3.0, -1e-9, 0.0, 0.5, 2.999]
    histogram = counted(values)
    assert histogram.counts.sum() == 5
    for value in values:
        place = np.abs(histogram.centers - value).argmin()
        assert histogram.counts[place - 1 : place + 2].sum() >= 1
    assert histogram.counts[BINS - 1] == histogram.counts[BINS] == 1


def test_larger_values_widen_the_bins_and_lose_no_count():
    few, many = [0.001, -0.002, 0.003], [-700.0, 500.0]
    histogram = counted(few, many)
    assert histogram.width * BINS == 1024
    assert histogram.counts.sum() == 5
    assert (histogram.low, histogram.high) == (-700, 500)
    assert histogram.counts.tolist() == counted(many, few).counts.tolist()


def test_of_a_large_tensor_a_sample_is_counted_and_its_bounds_are_of_all():
    values = np.random.RandomState(0).randn(30 * SAMPLE).astype(np.float32)
    histogram = counted(values)
    assert SAMPLE / 2 < histogram.counts.sum() < 2 * SAMPLE
    assert (histogram.low, histogram.high) == (values.min(), values.max())


def test_another_turn_samples_other_places():
    values = np.arange(10 * SAMPLE)
    assert counted(values).counts.tolist() != counted([0], values).counts.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="finite numbers were expected"):
        counted([1, bad])
