"""Sends one RTSP request to an address that FFmpeg failed to open, because FFmpeg does not print every answer.

It goes to the host and port that the user named, and carries no user name or password.
"""

import re
import socket
from typing import Sequence, Union

from ... import __version__

_TIMEOUT_S = 2.0
_MOST_BYTES = 512
_ANSWER = re.compile(rb"RTSP/\d\.\d (\d{3})(?: ([^\r\n]*))?")


def probe(address: Sequence[Union[str, int]], shown: str) -> str:
    """Return what happened at [host, port], as the end of a sentence that begins with "it"; "" for a normal answer.

    shown   the address without secrets, for the request
    """
    request = "OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgeclf/{}\r\n\r\n".format(shown, __version__)
    try:
        host, port = address
        with socket.create_connection((str(host), int(port)), timeout=_TIMEOUT_S) as link:
            link.sendall(request.encode("ascii", "replace"))
            data = link.recv(_MOST_BYTES)
    except socket.timeout:
        return "does not answer"
    except OSError as error:
        return "broke the connection: {}".format(error.strerror or error)
    if not data:
        return "closed the connection without an answer"
    found = _ANSWER.match(data)
    if found is None:
        line = data.partition(b"\n")[0].decode("latin-1").strip()
        return "answered {!r}, which is not RTSP".format(line[:80])
    status, reason = found.group(1).decode(), (found.group(2) or b"").decode("latin-1").strip()
    return "" if status in ("200", "401") else "answered OPTIONS with {} {}".format(status, reason)[:120].rstrip()
