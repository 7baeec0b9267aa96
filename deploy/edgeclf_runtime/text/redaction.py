"""Keeps this process's secrets out of what it writes: errors, log records, pages.

It works in two ways.  Known secrets are removed anywhere in a text, in any form (plain, percent-encoded, quoted,
in Basic authorization).  Whatever looks like a password in an address or a parameter is removed as well.
"""

import json
import re

from .secret_patterns import PLACEHOLDER, is_no_secret, replace_secret_pairs, secret_spans

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import Dict, Match, Optional, Pattern

HIDDEN = "***"
VARIABLE = "$EDGECLF_CAMERA_PASSWORD"  # replaces the password in commands that we suggest
# Shorter secrets occur in any text by chance.
_SHORTEST, _SHORT = 3, 8
_known: "Dict[str, None]" = {}
_pattern: "Optional[Pattern[str]]" = None
# Up to the last "@" of a word; the placeholder USER in our own messages is kept.
_USER = r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)(?!\[?USER\b)[^\s'\"<>]*@"


def protect(secret: str, user: "Optional[str]" = None) -> None:
    """Remove a secret from everything that :func:`redact` sees from now on."""
    global _pattern
    import base64  # not at the top: slow to import, and needed only if there is a secret
    from urllib.parse import quote, quote_plus, unquote

    forms = {secret, unquote(secret)}
    for form in list(forms):
        coded = quote(form, safe="", errors="replace")
        # As JSON, Python and GStreamer write it.
        escaped = json.dumps(form)[1:-1]
        forms |= {coded, coded.lower(), quote_plus(form, errors="replace"), escaped, repr(form)[1:-1]}
        forms |= {re.sub(r'(["\\ ])', r"\\\1", form), json.dumps(form, ensure_ascii=False)[1:-1]}
        if user:
            pair = "{}:{}".format(user, form).encode("utf-8", "surrogateescape")
            forms.add(base64.b64encode(pair).decode("ascii"))
    _known.update(dict.fromkeys(form for form in forms if len(form) >= _SHORTEST))
    longest_first = sorted(_known, key=len, reverse=True)
    _pattern = re.compile("|".join(map(_verbatim, longest_first))) if _known else None


def _verbatim(secret: str) -> str:
    if len(secret) >= _SHORT or not secret.isalnum():
        return re.escape(secret)
    return "(?<![A-Za-z0-9]){}(?![A-Za-z0-9])".format(re.escape(secret))


def learn(text: str) -> str:
    """Protect what looks like a secret in an argument or address; return the text, as long as before, with stars there."""
    starred = text
    for first, last in secret_spans(text):
        secret = text[first:last]
        for form in {secret, secret.strip("\"'"), re.split("_[a-z]+=", secret)[0]}:
            protect(form)
        starred = starred[:first] + "*" * (last - first) + starred[last:]
    return starred


def redact(text: str) -> str:
    """Return a text without this process's secrets, and without anything that looks like one."""
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    if "://" in text and "@" in text:
        text = re.sub(_USER, r"\1" + HIDDEN + "@", text)
    return replace_secret_pairs(_without_value, text)


def _without_value(match: "Match[str]") -> str:
    value = match.group("value")
    if value.strip("\"'.,;)") in ("", HIDDEN, PLACEHOLDER, VARIABLE) or is_no_secret(value):
        return match.group()
    return "{}={}".format(match.group("name"), HIDDEN)
