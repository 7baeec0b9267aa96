"""What a person sees of the host: progress, and reports in a terminal or a notebook."""
