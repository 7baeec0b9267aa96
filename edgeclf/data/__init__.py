"""Labeled images: read, checked, divided and decoded."""
