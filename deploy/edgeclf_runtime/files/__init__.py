"""Files on disk: read, hashed, written whole or not at all, and checked at the door."""
