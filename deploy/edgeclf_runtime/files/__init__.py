"""Files on disk: reading and hashing, writing whole or not at all, and validation of JSON from outside."""
