"""Calibration sets: the images whose activations set the INT8 ranges."""
