"""The gst-launch-1.0 command that runs a pipeline on its own, to be pasted into a shell to see what is wrong.

OpenCV takes a pipeline as one text, gst-launch-1.0 as a list of arguments, so each word is quoted for the shell.  An
appsink needs a program that reads it, so a fakesink replaces it.  Passwords are replaced by an environment variable.
"""

import re
import shlex
from typing import List, Tuple

from ..text.redaction import VARIABLE
from ..text.secret_patterns import is_key, is_no_secret, secret_spans

# A word as GStreamer's parser (gst/parse/parse.l) defines it: it ends at white space or "!" outside quotation marks.
_PART = r"\"(?:\\.|[^\"\\])*\"|\\.|[^\s\"\\]"
_TOKEN = re.compile(r"[\w-]+\s*=\s*(?:{0})+|!|(?:(?!!)(?:{0}))+|\S".format(_PART), re.DOTALL)
_ASSIGNMENT = re.compile(r"([\w-]+)\s*=\s*(.*)", re.DOTALL)


def launch_command(pipeline: str) -> str:
    """Return the command for a pipeline that ends in an appsink, without passwords."""
    words = ["gst-launch-1.0", "-v"]
    sink = hidden = False
    for token in _TOKEN.findall(pipeline):
        assignment = _ASSIGNMENT.fullmatch(token)
        if token == "!":
            sink = hidden = False
            words.append(token)
            continue
        if assignment is None and token == "appsink":
            sink = True
            words += ["fakesink", "sync=false"]
            continue
        if sink and assignment:
            words[-2:] = _without_appsink(words[-2:], *assignment.groups())
            continue
        # Words after a secret, up to the next element, may belong to it: a secret with spaces but no quotation marks.
        if hidden and not assignment:
            continue
        word, has_secret = _shown("=".join(assignment.groups()) if assignment else token)
        hidden = has_secret if assignment else hidden
        words.append(word)
    return " ".join(words)


def _without_appsink(words: List[str], name: str, value: str) -> List[str]:
    """Return the words of a fakesink with the properties of the appsink that matter: caps and name."""
    if name == "caps":
        return ["capsfilter", shlex.quote("caps=" + value), "!", *words]
    return words[:1] + [shlex.quote("name=" + value)] + words[1:] if name == "name" else words


def _shown(token: str) -> Tuple[str, bool]:
    """Return a word quoted for the shell, its secrets replaced by a variable, and whether it had any."""
    start = len("gst://")
    shown, at = "", 0
    spans = [(first - start, last - start) for first, last in secret_spans("gst://" + token)]
    spans = [(first, last) for first, last in spans if not is_no_secret(token[first:last])]
    for first, last in spans:
        shown += _quoted(token[at:first]) + '"{}"'.format(VARIABLE)
        at = last
    return shown + _quoted(token[at:]), bool(spans)


def _quoted(text: str) -> str:
    if "://" in text or text.startswith("@"):
        text = "/".join("..." if is_key(part) else part for part in text.split("/"))
    # gst-launch-1.0 itself escapes the spaces in its arguments.
    return shlex.quote(text.replace("\\ ", " ")) if text else ""
