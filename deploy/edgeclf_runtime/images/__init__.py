"""Images: reading files, converting arrays, and preprocessing for a model."""
