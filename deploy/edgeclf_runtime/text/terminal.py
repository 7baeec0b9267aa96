"""Makes text safe for terminals and logs: no escape sequences, no forged lines, no secrets.

A file name, a label or a library's message can hold escape sequences, line breaks and characters that change the
writing direction.  They are shown escaped, as Python writes them: ``\\x1b``.

Every start imports this module, so what ``--help`` does not need is imported where it is used.
"""

import sys

from .redaction import redact
from .stdio import write_stderr

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    import threading
    from types import TracebackType
    from typing import IO, Optional, TextIO, Type

# Control characters, format characters (zero width, direction), halves of surrogate pairs, line and paragraph separators.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Letters and marks that are drawn as nothing, whatever their category.  Selectors between text and emoji are kept.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(
    map(chr, [*range(0x180B, 0x180F), *range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)])
)
_LONGEST_LINE = 1 << 16


def is_invisible(letter: str) -> bool:
    """Return whether a character shows nothing or controls the terminal; a space counts as visible."""
    import unicodedata

    return unicodedata.category(letter) in _INVISIBLE or letter in _BLANK


def printable(text: object, newline: str = "\\n") -> str:
    """Return a text with every invisible character escaped.

    newline     replaces each line break.  The default, an escaped one, makes the text one line; "\\n" keeps line breaks;
                "\\n  " also indents, so that no line looks like another message
    """
    return newline.join(map(_escape, str(text).split("\n")))


def _escape(line: str) -> str:
    if line.isprintable() and _BLANK.isdisjoint(line):
        return line
    return "".join(
        letter.encode("unicode_escape").decode("ascii") if is_invisible(letter) else letter for letter in line
    )


def printable_json(text: str) -> str:
    """Return JSON text with the invisible characters in its strings escaped as JSON does it; its value stays the same."""
    if text.isprintable() and _BLANK.isdisjoint(text):
        return text
    # Outside of strings, JSON's only invisible characters are line breaks and tabs.
    return "".join(_json_escape(letter) if letter not in "\n\t" and is_invisible(letter) else letter for letter in text)


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join("\\u{:04x}".format(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))


def encodable(text: str, stream: "TextIO") -> str:
    """Return a text that the stream's encoding can hold: on devices it is often ASCII; labels and file names may not be."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def message(text: object) -> str:
    """Return a message as stderr and logs show it: without secrets, with every line but the first indented."""
    return printable(redact(str(text)), "\n  ")


def show_message(text: object) -> None:
    """Print a message to stderr."""
    write_stderr(message(text) + "\n")


def show_exception(kind: "Type[BaseException]", error: BaseException, trace: "Optional[TracebackType]") -> None:
    """Print an uncaught exception to stderr, as ``sys.excepthook`` does."""
    import traceback

    show_message("".join(traceback.format_exception(kind, error, trace)).rstrip())


def relay(stream: "IO[bytes]") -> "threading.Thread":
    """Print what a child process writes to its stderr, a pipe, as messages; return the thread that does it.

    OpenCV, FFmpeg and GStreamer quote addresses with their passwords, and names unescaped.
    """
    import threading

    thread = threading.Thread(target=_relay, args=(stream,), name="stderr of a child", daemon=True)
    thread.start()
    return thread


def _relay(stream: "IO[bytes]") -> None:
    with stream:
        for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
            show_message(printable(line.decode("utf-8", "backslashreplace").rstrip("\n")))


def show_line(text: str) -> bool:
    """Show a text in place of the previous one ("" clears it) if stderr is a terminal; return whether it is."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    write_stderr("\r\033[K" + printable(redact(text)))
    return True
