"""Every error that the runtime raises on purpose.

    EdgeclfError            the root, of the host's errors too; exit code 1
    ├── BundleError         a bundle that is damaged, incomplete, or of a newer format
    ├── ImageError          a file or an array that is not an image we can classify
    ├── CameraError         a source that cannot be opened, or a wrong name for one
    │   ├── CameraLost      a camera that delivered frames and stopped; it is being reopened
    │   ├── SourceError     a source that is there and cannot be used as it is; opening it again would not help
    │   ├── EndOfStream     a file or a folder has no more frames (not a failure)
    │   └── IncompleteFilm  a film that ended before its header says, or lacks many frames
    ├── BackendError        an inference backend that is missing or cannot run the model
    ├── OutputError         a path for output that is taken or cannot be written
    │   └── Unavailable     an output that may be there later: a disk that is not mounted, an address of a network that is down
    └── GateError           a measured figure fell short of what was asked for; exit code 3

A message says what was wrong, what was found, what was expected and what to do next.
"""

from .text.redaction import redact


class EdgeclfError(Exception):
    """A failure whose message is meant for the user; the command lines print it without a traceback.

    What the message quotes, say of a library, may hold a password: it is left out here, whoever reads the message.
    """

    exit_code = 1

    def __init__(self, *arguments):
        super().__init__(*(redact(value) if isinstance(value, str) else value for value in arguments))


class BundleError(EdgeclfError):
    """A bundle cannot be trusted or read."""


class ImageError(EdgeclfError):
    """An image cannot be decoded, or is not of a kind that can be classified."""


class CameraError(EdgeclfError):
    """A source of frames cannot be opened."""


class CameraLost(CameraError):  # noqa: N818 - as EndOfStream
    """A camera stopped delivering frames; reading on waits until it is back."""


class SourceError(CameraError):
    """A source answers, and cannot be used as it is: its pixels, its size, or what was asked of it."""


class EndOfStream(CameraError):  # noqa: N818 - an end, not an error
    """A finite source has delivered its last frame."""


class IncompleteFilm(CameraError):  # noqa: N818 - as EndOfStream
    """A film has delivered what there is of it, and that is less than its header promises."""


class BackendError(EdgeclfError):
    """An inference backend is not installed, or refuses the model."""


class OutputError(EdgeclfError):
    """A path for output is taken, or cannot be written."""


class Unavailable(OutputError):  # noqa: N818 - as CameraLost
    """An output is not there yet: a disk that is not mounted or is full, an address of a network that is down."""


class GateError(EdgeclfError):
    """A figure that was asked for was measured and not met."""

    exit_code = 3
