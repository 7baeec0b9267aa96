import pytest

from edgeclf_runtime.files.schema import (
    SchemaError,
    constant,
    flag,
    integer,
    list_of,
    mapping,
    nullable,
    number,
    parse_json,
    record,
    text,
)


def refusal(check, value):
    with pytest.raises(SchemaError) as caught:
        check(value, "it")
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"\xef\xbb\xbf{}", "it is not JSON"),
        (b'{"a": 1}{}', "it is not JSON"),
        (b'{"a": NaN}', "it holds NaN; a finite number was expected"),
        (b'{"a": -Infinity}', "it holds -Infinity"),
        (b'{"a": 1e999}', "a finite number was expected"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        (b'[{"x": {"a": 1, "a": 1}}]', "the key 'a' occurs twice"),
        (b"[" + b"9" * 400000 + b"]", "a whole number of 400000 digits; at most 19"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32 levels"),
        (b"[" * 1000000, "it is not JSON|nested"),
        (b'{"a": "\\u001b]0;title"}', r"control character U\+001B"),
        (b'{"\\u202e": 1}', r"control character U\+202E"),
        (b'["\\ud800"]', r"control character U\+D800"),
    ],
)
def test_anything_but_plain_json_is_refused_in_one_sentence(data, reason):
    with pytest.raises(SchemaError, match=reason) as caught:
        parse_json(data)
    assert len(str(caught.value)) < 300


def test_plain_json_comes_back_as_it_is():
    assert parse_json(b'{"a": [1, -2.5, null, true, "\\u4e2d\\n"]}') == {"a": [1, -2.5, None, True, "\u4e2d\n"]}


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (text("a+"), ["a", "aa"], [1, None, "", "ab", ["a"]]),
        (text(), ["x y", "\u4e2d"], ["", "a\nb", "a\tb", "\x7f", "x" * 1001]),
        (number(0, 1), [0, 1, 0.5], [True, -0.1, 1.1, "0", None, float("nan"), float("inf")]),
        (number(above=0), [0.1, 5], [0, -1, False]),
        (integer(1, 3), [1, 3], [0, 4, 1.0, True, "1"]),
        (flag, [True, False], [0, 1, None, "true"]),
        (constant("a", 1), ["a", 1], ["b", True, 1.0, None]),
        (nullable(integer()), [None, 1], ["", 0.5]),
        (list_of(integer(), 1, 2, unique=True), [[1], [1, 2]], [[], [1, 2, 3], [1, 1], ["a"], {}, "ab"]),
        (mapping(text("[a-z]"), integer()), [{}, {"a": 1}], [{"A": 1}, {"a": "1"}, [], None]),
        (
            record({"a": integer(), "b": flag}, optional=("b",)),
            [{"a": 1}, {"a": 1, "b": True}],
            [{}, {"a": 1, "c": 1}, []],
        ),
    ],
)
def test_each_declaration_accepts_its_own_values_and_no_others(check, good, bad):
    for value in good:
        check(value, "it")
    for value in bad:
        assert "\n" not in refusal(check, value)


def test_a_refusal_names_the_field_what_was_found_and_what_was_expected():
    declared = record({"models": list_of(record({"name": text("[a-z]+", "a name of small letters")}), 1)})
    assert refusal(declared, {"models": [{"name": "a"}, {"name": "\x1b[31m"}]}) == (
        "it.models[1].name is '\\x1b[31m'; a name of small letters was expected"
    )
    assert refusal(declared, {"models": {}}) == "it.models is an object; a list of 1 to 1000000 was expected"


def test_a_long_value_is_shortened_in_messages():
    assert len(refusal(text("a"), "x" * 10000)) < 200
    assert len(refusal(record({}), {"k" * 10000: 1})) < 200
