"""``doctor``: checks of the machine, each with its remedy."""
