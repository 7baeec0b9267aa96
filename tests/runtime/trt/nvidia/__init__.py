"""The runtime's TensorRT package with NVIDIA's own libraries; they run only on the host's Python."""
