"""A bundle: verified, opened, its models read."""
