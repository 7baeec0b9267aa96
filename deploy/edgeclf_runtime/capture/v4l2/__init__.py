"""USB cameras of Linux (Video4Linux 2)."""
