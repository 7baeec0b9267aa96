"""Text on its way to a terminal or a log: without what would command the terminal, forge a line or tell a secret.

A file name, a label or a library's message can hold escape sequences, line breaks and characters
that turn the direction of writing.  They are shown escaped, as Python writes them: ``\\x1b``.
"""

import re
import sys
import threading
import traceback
import unicodedata

from .redaction import redact
from .stdio import write_stderr

# Control characters, format characters (zero width, direction), halves of surrogate pairs, line and paragraph separators.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Letters and marks that are drawn as nothing, whatever their category says; not what chooses between text and emoji.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef"
_LONGEST_LINE = 1 << 16
_IS_BLANK = re.compile("[{}]".format(_BLANK))


def is_invisible(letter):
    """Whether a character shows nothing, or commands the terminal; a space shows itself."""
    return unicodedata.category(letter) in _INVISIBLE or _IS_BLANK.match(letter) is not None


def printable(text, newline="\\n"):
    """Return a text with every invisible character escaped.

    newline     what becomes of a line break: shown as ``\\n`` where the text is to be one line; "\\n" keeps it,
                for a text that is several lines; "\\n  " keeps it and indents, so that no line looks like another message
    """
    return newline.join(map(_escape, str(text).split("\n")))


def _escape(line):
    if line.isprintable() and not _IS_BLANK.search(line):
        return line
    return "".join(
        letter.encode("unicode_escape").decode("ascii") if is_invisible(letter) else letter for letter in line
    )


def printable_json(text):
    """Return JSON text with the invisible characters in its strings escaped as JSON does it: the same value."""
    if text.isprintable() and not _IS_BLANK.search(text):
        return text
    # Outside of strings JSON has no invisible characters but line breaks and tabs.
    return "".join(_json_escape(letter) if letter not in "\n\t" and is_invisible(letter) else letter for letter in text)


def _json_escape(letter):
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join("\\u{:04x}".format(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))


def encodable(text, stream):
    """Return a text that a stream of any encoding takes: a device's is often ASCII, its labels and file names may be not."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def message(text):
    """Return a message as stderr and logs show it: without secrets, and with only its first line at the margin."""
    return printable(redact(str(text)), "\n  ")


def show_message(text):
    """Print a message to stderr."""
    write_stderr(message(text) + "\n")


def show_exception(kind, error, trace):
    """Print what nobody has caught, as ``sys.excepthook`` does, to stderr."""
    show_message("".join(traceback.format_exception(kind, error, trace)).rstrip())


def relay(stream):
    """Print what a child process writes to its stderr, a pipe, as messages; returns the thread that does.

    OpenCV, FFmpeg and GStreamer quote addresses with their passwords, and names as they are.
    """
    thread = threading.Thread(target=_relay, args=(stream,), name="stderr of a child", daemon=True)
    thread.start()
    return thread


def _relay(stream):
    with stream:
        for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
            show_message(printable(line.decode("utf-8", "backslashreplace").rstrip("\n")))


def show_line(text):
    """Show a text in the place of the one before, "" for none, and return whether stderr is a terminal; nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    write_stderr("\r\033[K" + printable(redact(text)))
    return True
