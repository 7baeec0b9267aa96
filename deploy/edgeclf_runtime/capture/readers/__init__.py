"""Readers for each kind of source; they run in the capture process."""
