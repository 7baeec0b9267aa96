"""Tables of labels whose letters take two columns, or none."""

import pytest

from edgeclf.data.checks.integrity import CheckReport
from edgeclf.display.columns import fitted, left, right, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [("cat", 3), ("", 0), ("\u732b", 2), ("cafe\u0301", 4), ("\ud55c\uad6d", 4), ("\u00fc", 1), ("a\u200db", 2)],
)
def test_the_columns_of_a_text(text, columns):
    assert width(text) == columns
    assert (left(text, 6), right(text, 6)) == (text + " " * (6 - columns), " " * (6 - columns) + text)


def test_a_text_that_is_too_wide_loses_its_end():
    assert fitted("\u732b" * 10, 9) == "\u732b" * 4 + "\u2026"
    assert fitted("\u732b" * 10, 20) == "\u732b" * 10


def test_the_table_of_check_is_aligned_and_within_80_columns():
    counts = {"train": 1, "val": 2, "test": 3}
    report = CheckReport("photos", 6, {"\u732b" * 60: counts, "cafe\u0301": counts, "dog": counts}, ())
    lines = str(report).splitlines()[:4]
    assert {width(line) for line in lines} == {width(lines[0])}
    assert width(lines[0]) <= 80
