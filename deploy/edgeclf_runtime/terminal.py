"""How far a work of seconds is, in one line of a terminal that is written over."""

import sys


def show_line(text):
    """Show a text in the place of the one before, "" for none, and return whether stderr is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return False
    sys.stderr.write("\r\033[K" + text)
    sys.stderr.flush()
    return True
