"""Pages that people open in a browser and share: one look, one file each, no scripts, nothing loaded from elsewhere."""
