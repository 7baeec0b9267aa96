"""Addresses of cameras and brokers: parsing them, and removing secrets before they are shown.

A password can be in many places: ``rtsp://USER:PASSWORD@HOST``, ``http://HOST/video?pwd=...``,
``rtsp://HOST/user=admin_password=..._channel=1``, ``gst://rtspsrc user-pw=...``.  Scheme, host, port and path
are shown; anything that could be a secret is left out.
"""

import re
from typing import List, Match, NamedTuple, Optional
from urllib.parse import quote, unquote

from .secret_patterns import (
    PIPELINE_WORD,
    PLACEHOLDER,
    begins_with_ipv6,
    is_key,
    is_no_secret,
    is_secret_name,
    secret_pairs,
)

# Default ports by the scheme of a camera's address.
CAMERA_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
# Parameters that select a camera's stream and hold no secret.
_SHOWN_PAIR = (
    r"(?<![a-z0-9])(?:camera|cam|channel|chn|ch|stream|stream_?type|sub_?type|profile|id|resolution|width|height|fps|"
    r"quality|codec|video|audio|format|type)=[A-Za-z0-9.]{1,12}(?=$|[&;_])"
)
_ADDRESS = (
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9a-f:.]+(?:%25[\w.-]+)?\]|[^\[\]:@/?#]+)(?::(?P<port>[0-9]{1,5}))?(?P<tail>[/?#].*)?"
)
# RFC 3986, section 3.2.1, without ":", which ends the user name.
_CODED = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_NAMED = "@#/?:% []\\"
# Elements, their pads, "!", brackets, and caps without strings.
_PLAIN_WORD = r"[\w.:!(){}-]+|[a-z]+/[\w.+-]+(?:\([\w:]+\))?(?:,[\w-]+=(?:\(\w+\))?[\w./:+-]+)*,?"
_PLAIN_VALUE = r"\"?[\w./:+,()-]*\"?"


class Address(NamedTuple):
    """The parts of SCHEME://[USER[:PASSWORD]@]HOST[:PORT][TAIL]; user and password stay percent-encoded.

    tail        the path with its "/", the query and the fragment
    """

    scheme: str
    user: Optional[str]
    password: Optional[str]
    host: str
    port: Optional[int]
    tail: str

    @property
    def plain_host(self) -> str:
        """The host without the brackets of an IPv6 address."""
        return self.host.strip("[]").replace("%25", "%")

    @property
    def plain_user(self) -> Optional[str]:
        """The user name, decoded."""
        return self.user and unquote(self.user)

    @property
    def plain_password(self) -> Optional[str]:
        """The password, decoded."""
        return self.password and unquote(self.password)

    @property
    def shown(self) -> str:
        """The address without secrets: scheme, host, port and path."""
        port = "" if self.port is None else ":{}".format(self.port)
        return "{}://{}{}{}".format(self.scheme, self.host, port, _shown_tail(self.tail))

    def __str__(self) -> str:
        """The whole address, secrets included, as programs expect it."""
        user = "" if self.user is None else self.user + ("" if self.password is None else ":" + self.password) + "@"
        port = "" if self.port is None else ":{}".format(self.port)
        return "{}://{}{}{}{}".format(self.scheme, user, self.host, port, self.tail)


def parse_address(text: str) -> Address:
    """Parse an address.

    Raises ValueError if the text is not an address, or is ambiguous because its user name or password is not
    percent-encoded.  The message quotes nothing of the text except the characters that must be encoded.
    """
    scheme, _, rest = text.partition("://")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("it holds a control character")
    fault = _uncoded(rest)
    if fault:
        raise ValueError(fault)
    match = re.fullmatch(_ADDRESS, text, re.IGNORECASE | re.DOTALL)
    if match is None:
        raise ValueError("it does not have this form")
    port = None if match.group("port") is None else int(match.group("port"))
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    user, password, host, tail = match.group("user", "password", "host", "tail")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("the host name is not valid")
    return Address(scheme.lower(), user, password, host, port, tail or "")


def _uncoded(rest: str) -> str:
    """Return what is wrong with the part of an address that is, or could be, a user name and a password; else ""."""
    before, at, _ = rest.rpartition("@")
    user, colon, password = before.partition(":")
    # Without a colon there is no password, and an "@" after the host belongs to the path.
    if not at or begins_with_ipv6(rest) or (not colon and re.search("[/?#]", user)):
        return ""
    if all(not part or re.fullmatch(_CODED, part) for part in (user, password)):
        return ""
    bare = re.sub("%[0-9A-Fa-f]{2}", "", user + password)
    named = ["{!r} as {}".format(letter, quote(letter, safe="")) for letter in _NAMED if letter in bare]
    others = "".join(letter for letter in bare if letter not in _NAMED)
    if others and not re.fullmatch(_CODED, others):
        named.append("everything except A-Z a-z 0-9 - . _ ~ as % and two hexadecimal digits per UTF-8 byte")
    path = "; if its last '@' belongs to the path, write that as %40" if re.search("[/?#]", before) else ""
    return "in its user name and password, write {}{}".format(", ".join(named), path)


def _shown_tail(tail: str) -> str:
    path, question, query = tail.partition("#")[0].partition("?")
    shown = "/".join(_shown_segment(segment) for segment in path.split("/"))
    if question:
        shown += "?" + "&".join(_shown_pairs(pair) for pair in query.split("&"))
    return re.sub(r"\.\.\.(&\.\.\.)+", "...", shown)


def _shown_segment(segment: str) -> str:
    if "=" in segment or "&" in segment:
        return _shown_pairs(segment)
    if ":" in segment or is_key(segment):
        return "..."
    # An "@" would look like the end of a password.
    return segment.replace("@", "%40")


def _shown_pairs(text: str) -> str:
    shown = "&".join(match.group() for match in re.finditer(_SHOWN_PAIR, text, re.IGNORECASE))
    return shown if len(shown) == len(text) else (shown + "&..." if shown else "..." if text else "")


def shown_uri(text: str) -> str:
    """Return a source or an output as the user gave it, without secrets."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() == "gst":
        return "gst://" + shown_pipeline(rest)
    if separator:
        try:
            return parse_address(text.replace(PLACEHOLDER, "...")).shown
        except ValueError:
            return "{}://...".format(scheme if re.fullmatch(r"[\w+.-]+", scheme) else "")
    if re.search(":.*@", text, re.DOTALL) or any(secret_pairs(text)):
        return re.split("[:=]", text)[0] + "..."
    return text


def shown_pipeline(pipeline: str) -> str:
    """Return a GStreamer pipeline without secrets: its elements, and the values that are not secret."""
    shown: List[str] = []
    hidden = False
    for match in re.finditer(PIPELINE_WORD, pipeline):
        word = _shown_word(match)
        # Words between a secret and the next element may belong to the secret, if it has spaces and is not quoted.
        if word == "!" or match.group("name"):
            hidden = word.endswith("...")
        shown.append("..." if hidden and not match.group("name") else word)
    return " ".join(shown)


def _shown_word(match: "Match[str]") -> str:
    name, value = match.group("name"), match.group("value")
    if name is None:
        return match.group() if re.fullmatch(_PLAIN_WORD, match.group(), re.IGNORECASE) else "..."
    if is_secret_name(name) and not is_no_secret(value):
        return name + "=..."
    if "://" in value:
        return "{}={}".format(name, shown_uri(value.strip('"')))
    return "{}={}".format(name, value if re.fullmatch(_PLAIN_VALUE, value) else "...")


def fill_password(text: str, password: str) -> str:
    """Replace ``{password}`` in an address or a pipeline: percent-encoded in an address, quoted elsewhere.

    The password is also added to a camera's address that has a user name but no password.
    """
    coded = quote(password, safe="")
    scheme, _, rest = text.partition("://")
    if scheme.lower() == "gst":
        return scheme + "://" + re.sub(PIPELINE_WORD, lambda word: _fill_word(word, password, coded), rest)
    if PLACEHOLDER in text:
        return text.replace(PLACEHOLDER, coded)
    address = parse_address(text)
    return str(address._replace(password=coded)) if address.user and address.password is None else text


def _fill_word(word: "Match[str]", password: str, coded: str) -> str:
    text, value = word.group(), word.group("value")
    if PLACEHOLDER not in text:
        return text
    if "://" in text.partition(PLACEHOLDER)[0]:
        return text.replace(PLACEHOLDER, coded)
    plain = _escaped(_wrapped(password) if text.endswith((PLACEHOLDER, PLACEHOLDER + '"')) else password)
    if value is None or value.startswith('"'):
        return text.replace(PLACEHOLDER, plain)
    return '{}="{}"'.format(word.group("name"), value.replace(PLACEHOLDER, plain))


def quoted(text: str) -> str:
    """Return a text as a value of a property in a GStreamer pipeline."""
    return '"{}"'.format(_escaped(_wrapped(text)) if text else "")


def _escaped(text: str) -> str:
    """GStreamer's parser removes the quotation marks at both ends of a value, then these backslashes."""
    return re.sub(r'(["\\])', r"\\\1", text)


def _wrapped(password: str) -> str:
    """GStreamer unwraps a value again if it still looks quoted, and reads NULL as no text; this prevents both."""
    if password != "NULL" and not (password[0] == password[-1] == '"'):
        return password
    coded = "".join("\\{:03o}".format(byte) for byte in password.encode("utf-8"))
    return '"{}"'.format(coded)
