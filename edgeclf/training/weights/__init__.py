"""Pretrained weights: where they are, what is in their files, and how they fit a backbone."""
