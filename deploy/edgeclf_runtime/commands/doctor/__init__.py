"""``doctor``: checks of the machine, each with a fix."""
