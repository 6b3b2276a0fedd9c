"""Optional families behind extras, each importable alone."""
