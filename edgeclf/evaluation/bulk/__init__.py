"""Classifies millions of images into one file, by several processes of this machine or by Ray."""
