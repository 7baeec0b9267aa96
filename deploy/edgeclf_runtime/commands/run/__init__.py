"""The command ``run``: its options, its cameras, and its outputs."""
