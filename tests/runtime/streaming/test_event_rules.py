import re

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.streaming.event_rules import EventRule, parse_rule, rules_by_label

LABELS = ["defective", "functional", "10:30, a.m."]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("defective", ("defective", 0.5, 0.5, 0.375)),
        ("defective: hold=2", ("defective", 2.0, 0.5, 0.375)),
        ("defective:min=0.8", ("defective", 0.5, 0.8, pytest.approx(0.6))),
        (" defective : leave = 0.7 , hold = 0 , min = 0.8 ", ("defective", 0.0, 0.8, 0.7)),
        ("*: leave=0.9", ("*", 0.5, 0.9, 0.9)),
        ("10:30, a.m.:", ("10:30, a.m.", 0.5, 0.5, 0.375)),
        ("10:30, a.m.: hold=1", ("10:30, a.m.", 1.0, 0.5, 0.375)),
        ("unknown: hold=3", ("unknown", 3.0, 0.5, 0.375)),
    ],
)
def test_what_a_rule_leaves_out_has_a_default(text, rule):
    assert parse_rule(text) == EventRule(*rule)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' has no label; 'LABEL: hold="),
        (": hold=1", "has no label"),
        ("defective: 0.5", "'0.5' is not a setting; KEY=NUMBER was expected after the last colon"),
        ("10:30, a.m.", "a label that contains a colon needs one after it"),
        ("defective: wait=1", "'wait' is not a setting; hold, min, leave were expected"),
        ("defective: hold=soon", "hold=soon is not a number of seconds, 0 or more"),
        ("defective: hold=-1", "hold=-1 is not a number of seconds"),
        ("defective: hold=inf", "hold=inf is not a number of seconds"),
        ("defective: min=80", "min=80 is not a confidence above 0, at most 1"),
        ("defective: min=0", "min=0 is not a confidence above 0"),
        ("defective: leave=nan", "leave=nan is not a confidence"),
        ("defective: min=0.6, leave=0.8", "leave=0.8 is above min=0.6"),
        ("defective: hold=1, hold=2", "hold is given twice"),
        ("unknown: min=0.8", "only hold was expected"),
    ],
)
def test_a_rule_of_another_form_is_refused_with_what_was_expected(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_rule(text)


def test_a_rule_for_every_label_is_for_those_without_their_own_and_not_for_unknown():
    rules = rules_by_label([parse_rule("*: hold=1"), parse_rule("defective: hold=2")], LABELS)
    assert {label: rule.hold_s for label, rule in rules.items()} == dict(zip(LABELS, (2.0, 1.0, 1.0)))


def test_a_rule_for_a_label_that_the_model_does_not_have_lists_the_nearest():
    with pytest.raises(OptionError, match="no label 'defectiv' for --event; the nearest are: defective"):
        rules_by_label([parse_rule("defectiv")], LABELS)
    with pytest.raises(OptionError, match="no label 'xxx' for --event; the nearest are: defective, functional"):
        rules_by_label([parse_rule("xxx")], LABELS)


@pytest.mark.parametrize("label", ["defective", "*"])
def test_two_rules_for_one_label_are_refused(label):
    with pytest.raises(OptionError, match="given twice for the label"):
        rules_by_label([parse_rule(label), parse_rule(label + ": hold=1")], LABELS)
