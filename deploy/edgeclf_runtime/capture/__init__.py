"""Frames from cameras, streams and films, read by a process that may be killed."""
