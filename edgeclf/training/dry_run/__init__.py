"""The trial of a backbone before it is trained: export, quantization, and what has passed before."""
