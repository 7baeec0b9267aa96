"""Quantization: INT8 files that keep FP32's accuracy."""
