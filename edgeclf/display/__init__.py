"""The host's output for people: progress, and reports in a terminal or a notebook."""
