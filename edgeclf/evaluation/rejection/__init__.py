"""Fits what a device may answer instead of one label: unknown, by distance or by label, or a set of labels."""
