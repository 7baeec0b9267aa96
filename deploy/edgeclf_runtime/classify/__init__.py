"""Classification: image in, label and confidence out."""
