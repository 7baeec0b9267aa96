import pytest

from edgeclf.errors import first_sentence


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
