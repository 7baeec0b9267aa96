"""One RTSP request to an address that FFmpeg failed to open, since FFmpeg keeps some answers to itself.

Goes to the host and port that the user named, and carries no user name or password.
"""

import re
import socket

from ... import __version__

_TIMEOUT_S = 2.0
_MOST_BYTES = 512
_ANSWER = re.compile(rb"RTSP/\d\.\d (\d{3})(?: ([^\r\n]*))?")


def probe(address, shown):
    """Return what answers at [host, port], as the end of the sentence "it ..."; "" for a usual answer.

    shown   the address as it may be shown, for the request
    """
    request = "OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: edgeclf/{}\r\n\r\n".format(shown, __version__)
    try:
        with socket.create_connection(tuple(address), timeout=_TIMEOUT_S) as link:
            link.sendall(request.encode("ascii", "replace"))
            data = link.recv(_MOST_BYTES)
    except socket.timeout:
        return "answers nothing"
    except OSError as error:
        return "broke off: {}".format(error.strerror or error)
    if not data:
        return "closed the connection without an answer"
    found = _ANSWER.match(data)
    if found is None:
        line = data.partition(b"\n")[0].decode("latin-1").strip()
        return "answered {!r}, which is not RTSP".format(line[:80])
    status, reason = found.group(1).decode(), (found.group(2) or b"").decode("latin-1").strip()
    return "" if status in ("200", "401") else "answered OPTIONS with {} {}".format(status, reason)[:120].rstrip()
