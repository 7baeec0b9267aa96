"""TensorRT: engines built on this device, kept, and run."""
