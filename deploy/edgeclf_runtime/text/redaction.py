"""The secrets of this process, kept out of what it writes: errors, log records, pages.

Two ways at once: what is known to be a secret is left out wherever it stands, in whatever form
(as it is, percent-encoded, quoted, in a Basic authorization), and what looks like a password in
an address or a parameter is left out though nobody has named it.
"""

import base64
import json
import re
from typing import Any, Dict, Optional
from urllib.parse import quote, quote_plus, unquote

from .addresses import PLACEHOLDER, SECRET_PAIR, is_no_secret, secret_spans

HIDDEN = "***"
VARIABLE = "$EDGECLF_CAMERA_PASSWORD"  # stands for a password in commands that we suggest
# A shorter secret stands in every text by chance.
_SHORTEST, _SHORT = 3, 8
_known: Dict[str, None] = {}
_pattern: Optional[Any] = None
# Up to the last "@" of a word; not the form of an address that our own messages show.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)(?!\[?USER\b)[^\s'\"<>]*@")


def protect(secret, user=None):
    """Keep a secret out of everything that :func:`redact` sees from now on."""
    global _pattern
    forms = {secret, unquote(secret)}
    for form in list(forms):
        coded = quote(form, safe="", errors="replace")
        # JSON's and Python's ways to write it, and GStreamer's.
        escaped = json.dumps(form)[1:-1]
        forms |= {coded, coded.lower(), quote_plus(form, errors="replace"), escaped, repr(form)[1:-1]}
        forms |= {re.sub(r'(["\\ ])', r"\\\1", form), json.dumps(form, ensure_ascii=False)[1:-1]}
        if user:
            pair = "{}:{}".format(user, form).encode("utf-8", "surrogateescape")
            forms.add(base64.b64encode(pair).decode("ascii"))
    _known.update(dict.fromkeys(form for form in forms if len(form) >= _SHORTEST))
    longest_first = sorted(_known, key=len, reverse=True)
    _pattern = re.compile("|".join(map(_verbatim, longest_first))) if _known else None


def _verbatim(secret):
    if len(secret) >= _SHORT or not secret.isalnum():
        return re.escape(secret)
    return "(?<![A-Za-z0-9]){}(?![A-Za-z0-9])".format(re.escape(secret))


def learn(text):
    """Protect what in an argument or address looks like a secret; return the text with stars in its place.

    The second text has as many characters as the first.
    """
    starred = text
    for first, last in secret_spans(text):
        secret = text[first:last]
        for form in {secret, secret.strip("\"'"), re.split("_[a-z]+=", secret)[0]}:
            protect(form)
        starred = starred[:first] + "*" * (last - first) + starred[last:]
    return starred


def redact(text):
    """Return a text without the secrets of this process, and without what looks like one."""
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    text = _USER.sub(r"\1" + HIDDEN + "@", text)
    return SECRET_PAIR.sub(_without_value, text)


def _without_value(match):
    value = match.group("value")
    if value.strip("\"'.,;)") in ("", HIDDEN, PLACEHOLDER, VARIABLE) or is_no_secret(value):
        return match.group()
    return "{}={}".format(match.group("name"), HIDDEN)
