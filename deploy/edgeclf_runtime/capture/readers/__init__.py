"""Readers of each kind of source, run in the capture process."""
