import pytest

import edgeclf
from edgeclf.calibration.sets import CalibrationSet
from edgeclf.data.exclusion import read_exclusions
from edgeclf.data.splits import read_sides
from edgeclf.deployment.foreign.settings import read_config
from edgeclf.errors import first_sentence
from edgeclf.options import config_file
from edgeclf.training.soft_targets_file import read_soft_targets, soft_targets_sha256


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AssertionError(), "AssertionError"),
        (RuntimeError("\n"), "RuntimeError"),
        (ValueError("  wrong size\nand more"), "wrong size"),
        (
            RuntimeError("no operator 'a.b' in opset 13. Please ask on GitHub: https://x"),
            "no operator 'a.b' in opset 13",
        ),
        (RuntimeError("input size not accessible.  [Caused by the value '3'"), "input size not accessible"),
        (TypeError("expected 1.5, found 2."), "expected 1.5, found 2"),
    ],
)
def test_another_librarys_error_becomes_one_sentence(error, sentence):
    assert first_sentence(error) == sentence


_READERS = [
    read_exclusions,
    read_sides,
    CalibrationSet.load,
    lambda file: read_soft_targets(file, edgeclf.Dataset("none", file.parent, (), ()), []),
    lambda file: config_file.read_config(file, edgeclf.TrainOptions),
]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        *(("none.csv", read) for read in (*_READERS, read_config, soft_targets_sha256)),
        *(("photograph.csv", read) for read in _READERS),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_without_pythons_words(name, read, tmp_path):
    (tmp_path / "photograph.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(edgeclf.EdgeclfError, match=name) as refused:
        read(tmp_path / name)
    assert not any(word in str(refused.value) for word in ("Errno", "codec", "Error"))
