"""Asks an RTSP camera for the codec of its video: one DESCRIBE request (RFC 2326, 10.2), whose answer is an SDP (RFC 4566).

It goes to the host and port that the user named; redirects are not followed.  The answer comes from a stranger: it is read up to
a limit of bytes and of time, and only a codec's name is taken from it.
"""

import base64
import http.client
import io
import re
import socket
import time
from typing import Dict, Sequence, Tuple, Union

from ... import __version__
from ...text.addresses import Address, parse_address
from ..readers.http_client import challenge_of, digest

_TIMEOUT_S = 3.0
_MOST_BYTES = 1 << 16
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})\b[^\r\n]*\r?\n")
_Answer = Tuple[int, http.client.HTTPMessage, bytes]


def video_codec(location: str, address: Sequence[Union[str, int]]) -> str:
    """Return the codec of a camera's first video stream, such as "H264"; "" if its description does not say.

    Raises ValueError without a description, with the reason as the end of a sentence that begins with "it".

    location    the rtsp address, with the user name and the password if there are any
    address     its host and port
    """
    try:
        return codec_in(_describe(parse_address(location), (str(address[0]), int(address[1]))))
    except OSError as error:
        raise ValueError("broke the connection: {}".format(error.strerror or error))
    except http.client.HTTPException:
        raise ValueError("answered DESCRIBE with endless headers")


def codec_in(description: bytes) -> str:
    """Return the codec of the first video stream in an SDP, in capitals, or ""."""
    kind = ""
    for line in description[:_MOST_BYTES].decode("latin-1").splitlines():
        if line.startswith("m="):
            if kind:
                break
            found = re.match(r"m=video \d{1,5}(?:/\d{1,5})? [\w/]{1,40} (\d{1,3})\b", line)
            kind = found.group(1) if found else ""
        elif kind:
            codec = re.match(r"a=rtpmap:{} ([\w.-]{{1,40}})/".format(kind), line)
            if codec:
                return codec.group(1).upper()
    return ""


def _describe(camera: Address, address: Tuple[str, int]) -> bytes:
    """Return the answer's SDP.  Raises OSError, ValueError or HTTPException for anything but a complete one."""
    url = str(camera._replace(user=None, password=None))
    until = time.monotonic() + _TIMEOUT_S
    status, headers, body = _ask(address, url, 1, "", until)
    if status == 401 and camera.plain_user:
        challenge = challenge_of(headers.get_all("WWW-Authenticate") or [])
        status, _, body = _ask(address, url, 2, _authorization(challenge, camera, url), until)
    if status != 200:
        raise ValueError("answered DESCRIBE with {}".format(status))
    return body


def _authorization(challenge: Dict[str, str], camera: Address, url: str) -> str:
    user, password = camera.plain_user or "", camera.plain_password or ""
    if not challenge:
        raise ValueError("answered DESCRIBE with 401, and asks for a password in an unknown way")
    if challenge["scheme"] == "basic":
        return "Basic " + base64.b64encode("{}:{}".format(user, password).encode("utf-8")).decode("ascii")
    return digest(challenge, user, password, "DESCRIBE", url, 1)


def _ask(address: Tuple[str, int], url: str, number: int, authorization: str, until: float) -> _Answer:
    lines = ["DESCRIBE {} RTSP/1.0".format(url), "CSeq: {}".format(number), "User-Agent: edgeclf/" + __version__]
    lines += ["Accept: application/sdp", *(["Authorization: " + authorization] if authorization else []), "", ""]
    with socket.create_connection(address, timeout=_TIMEOUT_S) as link:
        link.sendall("\r\n".join(lines).encode("utf-8"))
        return _answer(link, until)


def _answer(link: socket.socket, until: float) -> _Answer:
    data = b""
    while b"\r\n\r\n" not in data:
        data = _more(link, data, until)
    head, _, body = data.partition(b"\r\n\r\n")
    status = _STATUS.match(head + b"\r\n")
    if status is None:
        raise ValueError("answered something which is not RTSP")
    headers = http.client.parse_headers(io.BytesIO(head[status.end() :] + b"\r\n\r\n"))
    size = headers.get("Content-Length") or "0"
    length = int(size) if re.fullmatch("[0-9]{1,9}", size) else -1
    if not 0 <= length <= _MOST_BYTES:
        raise ValueError("answered DESCRIBE with an invalid length")
    while len(body) < length:
        body = _more(link, body, until)
    return int(status.group(1)), headers, body[:length]


def _more(link: socket.socket, data: bytes, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0 or len(data) > _MOST_BYTES:
        raise ValueError("gave an answer that does not end")
    link.settimeout(left)
    more = link.recv(4096)
    if not more:
        raise ValueError("closed the connection without an answer")
    return data + more
