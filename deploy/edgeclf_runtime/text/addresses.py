"""Addresses of cameras and brokers: their parts, and what of them may be shown to people.

A password can stand in many places: ``rtsp://USER:PASSWORD@HOST``, ``http://HOST/video?pwd=...``,
``rtsp://HOST/user=admin_password=..._channel=1``, ``gst://rtspsrc user-pw=...``.  What is shown keeps
scheme, host, port and the path; whatever could be a secret is left out.
"""

import re
from typing import List, NamedTuple, Optional, Tuple
from urllib.parse import quote, unquote

# By the scheme of a camera's address, where it names no port.
CAMERA_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
# Names of properties and parameters whose values are nobody's business.
_SECRET_WORDS = (
    "pas|pw|secret|token|key|auth|cred|cookie|header|signature|login|session|streamid|jwt|bearer|hash|phrase|"
    "(?<![a-z])(?:sig|sid|pin)(?![a-z])"
)
_SECRET_NAME = re.compile(_SECRET_WORDS, re.IGNORECASE)
# In a text that nobody has parsed a value ends at a quotation mark, an "&" or white space; our own options name files.
SECRET_PAIR = re.compile(
    r"(?<![\w-])(?!--)(?P<name>[\w-]{{0,40}}(?:{})[\w-]{{0,40}})\s*=\s*".format(_SECRET_WORDS)
    + r"(?P<value>\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s&'\"]+)",
    re.IGNORECASE,
)
# Parameters that tell one picture of a camera from another, and hold no secret.
_SHOWN_PAIR = re.compile(
    r"(?<![a-z0-9])(?:camera|cam|channel|chn|ch|stream|stream_?type|sub_?type|profile|id|resolution|width|height|fps|"
    r"quality|codec|video|audio|format|type)=[A-Za-z0-9.]{1,12}(?=$|[&;_])",
    re.IGNORECASE,
)
# Long runs of letters and digits are keys: some cameras' streams are secret by their path.
KEY_IN_PATH = re.compile(r"(?=[^0-9]*[0-9])(?:[A-Za-z0-9]{16,}|[A-Za-z0-9]{4,}(?:-[A-Za-z0-9]{4,}){2,})\Z")
# Switches and small numbers, say key-int-max=30 of an encoder, are no secrets, whatever their name is.
_NO_SECRET = re.compile(r"[\"']?(?:true|false|yes|no|[0-9]{1,2})[\"']?", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9a-f:.]+(?:%25[\w.-]+)?\]|[^\[\]:@/?#]+)(?::(?P<port>[0-9]{1,5}))?(?P<tail>[/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_IPV6_FIRST = re.compile(r"\[[0-9a-f:.]+\](?::[0-9]+)?[/?#]", re.IGNORECASE)
# RFC 3986, section 3.2.1, without ":", which ends the user's name.
_CODED = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_NAMED = "@#/?:% []\\"
PLACEHOLDER = "{password}"
# One word of a GStreamer pipeline: an assignment with its value, or anything else without white space.
_WORD = re.compile(r"(?P<name>[\w-]+)\s*=\s*(?P<value>\"(?:\\.|[^\"\\])*\"|(?:\\.|[^\s\\])+)|(?:\\.|[^\s\\])+|\\")
# Elements, their pads, "!", brackets, and caps without strings in them.
_PLAIN_WORD = re.compile(
    r"[\w.:!(){}-]+|[a-z]+/[\w.+-]+(?:\([\w:]+\))?(?:,[\w-]+=(?:\(\w+\))?[\w./:+-]+)*,?", re.IGNORECASE
)
_PLAIN_VALUE = re.compile(r"\"?[\w./:+,()-]*\"?")


class Address(NamedTuple):
    """The parts of SCHEME://[USER[:PASSWORD]@]HOST[:PORT][TAIL]; user and password as written, percent-encoded.

    tail        the path with its "/", the query and the fragment
    """

    scheme: str
    user: Optional[str]
    password: Optional[str]
    host: str
    port: Optional[int]
    tail: str

    @property
    def plain_host(self):
        """The host without the brackets of IPv6."""
        return self.host.strip("[]").replace("%25", "%")

    @property
    def plain_user(self):
        """The user's name, decoded."""
        return self.user and unquote(self.user)

    @property
    def plain_password(self):
        """The password, decoded."""
        return self.password and unquote(self.password)

    @property
    def shown(self):
        """What may be shown: scheme, host, port and path, without secrets."""
        port = "" if self.port is None else ":{}".format(self.port)
        return "{}://{}{}{}".format(self.scheme, self.host, port, _shown_tail(self.tail))

    def __str__(self):
        """The whole address, as programs take it."""
        user = "" if self.user is None else self.user + ("" if self.password is None else ":" + self.password) + "@"
        port = "" if self.port is None else ":{}".format(self.port)
        return "{}://{}{}{}{}".format(self.scheme, user, self.host, port, self.tail)


def parse_address(text):
    """Return the Address that a text is.

    Raises ValueError, its message without any part of the text but the characters at fault, where the text is none,
    or can be read in two ways because a user name or a password is not percent-encoded.
    """
    scheme, _, rest = text.partition("://")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("it holds a control character")
    fault = _uncoded(rest)
    if fault:
        raise ValueError(fault)
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("it has not this form")
    port = None if match.group("port") is None else int(match.group("port"))
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    user, password, host, tail = match.group("user", "password", "host", "tail")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("the host's name is wrong")
    return Address(scheme.lower(), user, password, host, port, tail or "")


def _uncoded(rest):
    """Return what is wrong with the part of an address that is, or could be, a user name and a password."""
    before, at, _ = rest.rpartition("@")
    user, colon, password = before.partition(":")
    # Without a colon there is no password, and an "@" behind the host belongs to the path.
    if not at or _IPV6_FIRST.match(rest) or (not colon and re.search("[/?#]", user)):
        return ""
    if all(not part or _CODED.fullmatch(part) for part in (user, password)):
        return ""
    bare = re.sub("%[0-9A-Fa-f]{2}", "", user + password)
    named = ["{!r} as {}".format(letter, quote(letter, safe="")) for letter in _NAMED if letter in bare]
    others = "".join(letter for letter in bare if letter not in _NAMED)
    if others and not _CODED.fullmatch(others):
        named.append("all but A-Z a-z 0-9 - . _ ~ as % and two hexadecimal digits for each byte in UTF-8")
    path = "; if its last '@' belongs to the path, write that as %40" if re.search("[/?#]", before) else ""
    return "in its user name and password, write {}{}".format(", ".join(named), path)


def _shown_tail(tail):
    path, question, query = tail.partition("#")[0].partition("?")
    shown = "/".join(_shown_segment(segment) for segment in path.split("/"))
    if question:
        shown += "?" + "&".join(_shown_pairs(pair) for pair in query.split("&"))
    return re.sub(r"\.\.\.(&\.\.\.)+", "...", shown)


def _shown_segment(segment):
    if "=" in segment or "&" in segment:
        return _shown_pairs(segment)
    if ":" in segment or KEY_IN_PATH.match(segment):
        return "..."
    # An "@" would be taken for the end of a password.
    return segment.replace("@", "%40")


def _shown_pairs(text):
    shown = "&".join(match.group() for match in _SHOWN_PAIR.finditer(text))
    return shown if len(shown) == len(text) else (shown + "&..." if shown else "..." if text else "")


def shown_uri(text):
    """Return what may be shown of any text that a person gave as a source or an output."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() == "gst":
        return "gst://" + shown_pipeline(rest)
    if separator:
        try:
            return parse_address(text.replace(PLACEHOLDER, "...")).shown
        except ValueError:
            return "{}://...".format(scheme if re.fullmatch(r"[\w+.-]+", scheme) else "")
    if re.search(":.*@", text, re.DOTALL) or SECRET_PAIR.search(text):
        return re.split("[:=]", text)[0] + "..."
    return text


def shown_pipeline(pipeline):
    """Return what may be shown of a GStreamer pipeline: its elements, and values that are no secret."""
    shown: List[str] = []
    hidden = False
    for match in _WORD.finditer(pipeline):
        word = _shown_word(match)
        # What follows a secret up to the next element may be the rest of it, where it has spaces and no quotation marks.
        if word == "!" or match.group("name"):
            hidden = word.endswith("...")
        shown.append("..." if hidden and not match.group("name") else word)
    return " ".join(shown)


def _shown_word(match):
    name, value = match.group("name"), match.group("value")
    if name is None:
        return match.group() if _PLAIN_WORD.fullmatch(match.group()) else "..."
    if _SECRET_NAME.search(name) and not is_no_secret(value):
        return name + "=..."
    if "://" in value:
        return "{}={}".format(name, shown_uri(value.strip('"')))
    return "{}={}".format(name, value if _PLAIN_VALUE.fullmatch(value) else "...")


def fill_password(text, password):
    """Return an address or a pipeline with ``{password}`` replaced: percent-encoded in an address, else quoted.

    A camera's address with a user name and without a password is given it, too.
    """
    coded = quote(password, safe="")
    scheme, _, rest = text.partition("://")
    if scheme.lower() == "gst":
        return scheme + "://" + _WORD.sub(lambda word: _fill_word(word, password, coded), rest)
    if PLACEHOLDER in text:
        return text.replace(PLACEHOLDER, coded)
    address = parse_address(text)
    return str(address._replace(password=coded)) if address.user and address.password is None else text


def _fill_word(word, password, coded):
    text, value = word.group(), word.group("value")
    if PLACEHOLDER not in text:
        return text
    if "://" in text.partition(PLACEHOLDER)[0]:
        return text.replace(PLACEHOLDER, coded)
    plain = _escaped(_wrapped(password) if text.endswith((PLACEHOLDER, PLACEHOLDER + '"')) else password)
    if value is None or value.startswith('"'):
        return text.replace(PLACEHOLDER, plain)
    return '{}="{}"'.format(word.group("name"), value.replace(PLACEHOLDER, plain))


def _escaped(text):
    """GStreamer's parser takes off the quotation marks at both ends of a value, then these backslashes."""
    return re.sub(r'(["\\])', r"\\\1", text)


def _wrapped(password):
    """What then looks quoted again is unwrapped again, and NULL is no text."""
    if password != "NULL" and not (password[0] == password[-1] == '"'):
        return password
    coded = "".join("\\{:03o}".format(byte) for byte in password.encode("utf-8"))
    return '"{}"'.format(coded)


def secret_spans(text):
    """Return where in a text that a person gave secrets stand: (start, end) each, the text one argument or address."""
    spans = [match.span("value") for match in SECRET_PAIR.finditer(text)]
    scheme, separator, rest = text.partition("://")
    if separator and re.search(r"(^|=)\s*gst\Z", scheme, re.IGNORECASE):
        start = len(scheme) + len(separator)
        for word in _WORD.finditer(rest):
            if word.group("value") and "://" in word.group("value"):
                at = start + word.start("value")
                spans += [(at + first, at + last) for first, last in secret_spans(word.group("value"))]
    else:
        # Without "://" too: somebody has forgotten a part of it.
        rest = rest if separator else text
        colon, at = rest.find(":"), rest.rfind("@")
        if 0 <= colon < at and not _IPV6_FIRST.match(rest):
            start = len(text) - len(rest)
            spans.append((start + colon + 1, start + at))
    return _merged((first, last) for first, last in spans if text[first:last].strip("\"'") not in ("", PLACEHOLDER))


def is_no_secret(value):
    """Whether a value is a switch or a small number, which is nobody's password."""
    return _NO_SECRET.fullmatch(value) is not None


def _merged(spans):
    """Return spans in their order, those that overlap as one."""
    merged: List[Tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            before = merged.pop()
            first, last = before[0], max(last, before[1])
        merged.append((first, last))
    return merged
