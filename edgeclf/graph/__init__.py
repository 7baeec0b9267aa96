"""ONNX graphs: written, read and converted."""
