"""Rights that the capture process gives up."""
