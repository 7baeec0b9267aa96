"""A case of device_page.py: words of deploy/README.md, the command line that they are part of, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

TERM = 143  # the run has no end: it gets SIGTERM when it has shown what it must
NOT_RUN = -1
CAMERA_FILE = "--password-file /etc/edgeclf/camera"
BROKER_FILE = "--mqtt-password-file /etc/edgeclf/camera"
RUN = "python3 pets.edge run --source "
VIDEO = RUN + "video.mp4 "
TEST = RUN + "test:// "
FRAME = r'"state": "live", "label"|^ +\d+  \S.* \d\.\d{3}  \(.*age [0-9.]+ ms'
TOKEN = "a-token-of-some-length"
CURL = "curl -sS -o /dev/null -w '%{http_code} ' "


class Case(NamedTuple):
    """Words of the page in a command line.

    text        the words, as the page has them
    line        the command line for a shell; only the words unless it is given
    ends        its exit code
    shows       a pattern of its output, which is waited for before SIGTERM
    words       what stands on the page for something, and for what here
    needs       what an interpreter may lack: "gstreamer", "onnxruntime", "openvino", "paho", "tensorrt", "shared"
    refused     the exit code and a pattern of the output without that; or NOT_RUN and why
    beside      a command line that is run while the first still runs, or after it, and a pattern of its output
    usb         whether /dev/video0 has a camera
    not_here    why the real thing is not possible here; ``ends`` and ``shows`` are those of the error then
    """

    text: str
    line: str = "{}"
    ends: int = 0
    shows: str = ""
    words: Mapping[str, str] = MappingProxyType({})
    needs: str = ""
    refused: tuple[int, str] = (1, "")
    beside: tuple[str, str] = ("", "")
    usb: bool = False
    not_here: str = ""


def endless(text: str, line: str = RUN + "{}", **options: Any) -> Iterator[Case]:
    """Yield the case of a run that has no end and gives results."""
    yield Case(text, line, **{"ends": TERM, "shows": FRAME, **options})
