"""Image in, label and confidence out."""
