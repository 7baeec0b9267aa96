"""Finds what looks like a secret in a text: in arguments, in addresses, in messages.

Regular expressions are kept as text here and in ``addresses.py``: ``re`` compiles each on first use, and most starts use
none of them.
"""

import re

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, List, Match, Tuple

PLACEHOLDER = "{password}"
# Properties and parameters with such names hold secrets.
_SECRET_WORDS = (
    "pas|pw|secret|token|key|auth|cred|cookie|header|signature|login|session|streamid|jwt|bearer|hash|phrase|"
    "(?<![a-z])(?:sig|sid|pin)(?![a-z])"
)
# In unparsed text, a value ends at a quotation mark, an "&" or white space.  Our own options (--...) name files.
_SECRET_PAIR = (
    r"(?<![\w-])(?!--)(?P<name>[\w-]{{0,40}}(?:{})[\w-]{{0,40}})\s*=\s*".format(_SECRET_WORDS)
    + r"(?P<value>\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s&'\"]+)"
)
# Long runs of letters and digits are keys: some cameras' streams are protected only by a secret path.
_KEY_IN_PATH = r"(?=[^0-9]*[0-9])(?:[A-Za-z0-9]{16,}|[A-Za-z0-9]{4,}(?:-[A-Za-z0-9]{4,}){2,})\Z"
# Switches and small numbers, such as an encoder's key-int-max=30, are not secrets, whatever their name.
_NO_SECRET = r"[\"']?(?:true|false|yes|no|[0-9]{1,2})[\"']?"
_IPV6_FIRST = r"\[[0-9a-f:.]+\](?::[0-9]+)?[/?#]"
# A word of a GStreamer pipeline: an assignment with its value, or anything else without white space.
PIPELINE_WORD = r"(?P<name>[\w-]+)\s*=\s*(?P<value>\"(?:\\.|[^\"\\])*\"|(?:\\.|[^\s\\])+)|(?:\\.|[^\s\\])+|\\"


def secret_pairs(text: str) -> "Iterator[Match[str]]":
    """Return the matches of NAME=VALUE pairs whose name says that the value is secret, with the groups name and value."""
    return re.finditer(_SECRET_PAIR, text, re.IGNORECASE) if "=" in text else iter(())


def replace_secret_pairs(replacement: "Callable[[Match[str]], str]", text: str) -> str:
    """Return a text with each match of :func:`secret_pairs` replaced by what the function returns for it."""
    return re.sub(_SECRET_PAIR, replacement, text, flags=re.IGNORECASE) if "=" in text else text


def is_secret_name(name: str) -> bool:
    """Return whether a property or parameter of this name holds a secret."""
    return re.search(_SECRET_WORDS, name, re.IGNORECASE) is not None


def is_no_secret(value: str) -> bool:
    """Return whether a value is a switch or a small number, which is never a password."""
    return re.fullmatch(_NO_SECRET, value, re.IGNORECASE) is not None


def is_key(segment: str) -> bool:
    """Return whether a segment of a path looks like a key."""
    return re.match(_KEY_IN_PATH, segment) is not None


def begins_with_ipv6(rest: str) -> bool:
    """Return whether an address begins, after its "://", with an IPv6 host: a "@" then belongs to the path."""
    return re.match(_IPV6_FIRST, rest, re.IGNORECASE) is not None


def secret_spans(text: str) -> "List[Tuple[int, int]]":
    """Return the (start, end) positions of secrets in one argument or address as the user gave it."""
    spans = [match.span("value") for match in secret_pairs(text)]
    scheme, separator, rest = text.partition("://")
    if separator and re.search(r"(^|=)\s*gst\Z", scheme, re.IGNORECASE):
        start = len(scheme) + len(separator)
        for word in re.finditer(PIPELINE_WORD, rest):
            if word.group("value") and "://" in word.group("value"):
                at = start + word.start("value")
                spans += [(at + first, at + last) for first, last in secret_spans(word.group("value"))]
    else:
        # Also without "://": the user may have forgotten it.
        rest = rest if separator else text
        colon, at = rest.find(":"), rest.rfind("@")
        if 0 <= colon < at and not begins_with_ipv6(rest):
            start = len(text) - len(rest)
            spans.append((start + colon + 1, start + at))
    return _merged((first, last) for first, last in spans if text[first:last].strip("\"'") not in ("", PLACEHOLDER))


def _merged(spans: "Iterable[Tuple[int, int]]") -> "List[Tuple[int, int]]":
    """Return the spans in order, with overlapping ones merged."""
    merged: List[Tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            before = merged.pop()
            first, last = before[0], max(last, before[1])
        merged.append((first, last))
    return merged
