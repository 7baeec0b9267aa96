"""Computes millions of images, by several processes of this machine or by Ray, and keeps what is done if it is interrupted."""
