"""Fine-tuning: from labeled images to a run."""
