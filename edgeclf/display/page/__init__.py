"""Pages that people open in a browser and send on: one look, one file each, no scripts, nothing loaded from elsewhere."""
