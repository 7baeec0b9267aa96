"""All errors that the runtime raises on purpose.

    EdgeclfError            the root, also of the host's errors; exit code 1
    ├── OptionError         an option has an invalid value
    ├── DependencyError     an optional library is not installed
    ├── BundleError         a bundle is damaged, incomplete, or of a newer format
    ├── ImageError          a file or an array is not an image that can be classified
    ├── CameraError         a source cannot be opened, or its name is wrong
    │   ├── CameraLost      a camera stopped delivering frames; it is being reopened
    │   ├── SourceError     a source works but cannot be used as it is; reopening it would not help
    │   ├── EndOfStream     a file or a folder has no more frames (not a failure)
    │   └── IncompleteFilm  a video ended before its header says, or many of its frames are missing
    ├── BackendError        an inference backend is missing or cannot run the model
    ├── OutputError         an output path is taken or cannot be written
    │   └── Unavailable     an output may be back later: a disk is not mounted, a network is down
    └── GateError           a measured figure missed its required value; exit code 3

A message says what was wrong, what was found, what was expected and what to do.
"""

from .text.redaction import redact


class EdgeclfError(Exception):
    """A failure whose message is meant for the user; the command lines print it without a traceback.

    A message may quote text that holds a password, such as a library's own error; passwords are removed here.
    """

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(redact(value) if isinstance(value, str) else value for value in arguments))


class OptionError(EdgeclfError):
    """An option has an invalid value."""


class DependencyError(EdgeclfError):
    """An optional library is not installed; the message names the feature and the install command."""


class BundleError(EdgeclfError):
    """A bundle is damaged or incomplete, or its format is newer than this runtime."""


class ImageError(EdgeclfError):
    """An image cannot be decoded or converted to 8-bit BGR."""


class CameraError(EdgeclfError):
    """A source of frames cannot be opened."""


class CameraLost(CameraError):  # noqa: N818 - as EndOfStream
    """A camera stopped delivering frames; the next read waits until it is back."""


class SourceError(CameraError):
    """A source works but cannot be used as it is: its pixel format, its size or a requested setting does not fit."""


class EndOfStream(CameraError):  # noqa: N818 - an end, not an error
    """A finite source has delivered its last frame."""


class IncompleteFilm(CameraError):  # noqa: N818 - as EndOfStream
    """A video delivered all its frames, but fewer than its header promises."""


class BackendError(EdgeclfError):
    """An inference backend is not installed or refuses the model."""


class OutputError(EdgeclfError):
    """An output path is taken or cannot be written."""


class Unavailable(OutputError):  # noqa: N818 - as CameraLost
    """An output is not available yet: its disk is full or not mounted, or its network is down."""


class GateError(EdgeclfError):
    """A measured figure missed the value that was required of it."""

    exit_code = 3
