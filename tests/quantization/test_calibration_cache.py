import struct

import pytest

from edgeclf.errors import DataError
from edgeclf.quantization.flavors.calibration_cache import format_cache, parse_cache


def test_a_scale_is_the_largest_magnitude_over_127_as_big_endian_float32():
    lines = format_cache({"image": (0, 255), "logits": (-12.7, 3)}).splitlines()
    assert lines[0] == "TRT-8502-EntropyCalibration2"
    assert lines[1] == "image: " + struct.pack("!f", 255 / 127).hex()
    assert lines[2] == "logits: 3dcccccd"


def test_names_may_hold_spaces_and_colons():
    name = "(Unnamed Layer* 0): [Constant] output"
    assert parse_cache(format_cache({name: (-1.27, 0)})) == {name: pytest.approx(0.01)}


def test_a_tensor_that_was_always_0_keeps_a_scale_above_0():
    assert parse_cache(format_cache({"dead": (0, 0)}))["dead"] > 0


def test_the_header_takes_the_version_that_will_read_it():
    assert format_cache({"image": (0, 1)}, 100300).startswith("TRT-100300-EntropyCalibration2\n")


def test_what_is_no_cache_is_refused():
    with pytest.raises(DataError, match="begins with 'hello'; TRT-8502-EntropyCalibration2 was expected"):
        parse_cache("hello\n")
    with pytest.raises(DataError, match="line 2 of a calibration cache is 'image: 4g000000'"):
        parse_cache("TRT-8502-EntropyCalibration2\nimage: 4g000000\n")
