"""The gst-launch-1.0 command that runs a pipeline without us: what a person pastes into a shell to see what is wrong.

A pipeline is one text to OpenCV and a list of arguments to gst-launch-1.0, so each of its words is quoted for the
shell.  An appsink needs a program that reads it; a fakesink takes its place.  Passwords are left to a variable.
"""

import re
import shlex

from ..text.addresses import KEY_IN_PATH, is_no_secret, secret_spans
from ..text.redaction import VARIABLE

# A word as GStreamer's parser (gst/parse/parse.l) has it: white space and "!" end it, but for those in quotation marks.
_PART = r"\"(?:\\.|[^\"\\])*\"|\\.|[^\s\"\\]"
_TOKEN = re.compile(r"[\w-]+\s*=\s*(?:{0})+|!|(?:(?!!)(?:{0}))+|\S".format(_PART), re.DOTALL)
_ASSIGNMENT = re.compile(r"([\w-]+)\s*=\s*(.*)", re.DOTALL)


def launch_command(pipeline):
    """Return the command for a pipeline that ends in an appsink; without passwords."""
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
        # What follows a secret up to the next element may be the rest of it, if it has spaces and no quotation marks.
        if hidden and not assignment:
            continue
        word, has_secret = _shown("=".join(assignment.groups()) if assignment else token)
        hidden = has_secret if assignment else hidden
        words.append(word)
    return " ".join(words)


def _without_appsink(words, name, value):
    """Return the words of a fakesink that has what matters of a property of the appsink."""
    if name == "caps":
        return ["capsfilter", shlex.quote("caps=" + value), "!", *words]
    return words[:1] + [shlex.quote("name=" + value)] + words[1:] if name == "name" else words


def _shown(token):
    """Return a word as the shell takes it, secrets as a variable, and whether there was one."""
    start = len("gst://")
    shown, at = "", 0
    spans = [(first - start, last - start) for first, last in secret_spans("gst://" + token)]
    spans = [(first, last) for first, last in spans if not is_no_secret(token[first:last])]
    for first, last in spans:
        shown += _quoted(token[at:first]) + '"{}"'.format(VARIABLE)
        at = last
    return shown + _quoted(token[at:]), bool(spans)


def _quoted(text):
    if "://" in text or text.startswith("@"):
        text = "/".join("..." if KEY_IN_PATH.match(part) else part for part in text.split("/"))
    # gst-launch-1.0 escapes the spaces of its arguments itself.
    return shlex.quote(text.replace("\\ ", " ")) if text else ""
