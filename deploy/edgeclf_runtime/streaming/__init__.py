"""A camera's frames classified one after another."""
