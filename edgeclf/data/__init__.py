"""Labeled images: reading, checking, splitting and decoding."""
