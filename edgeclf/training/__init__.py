"""Fine-tuning on labeled images; the result is a run."""
