"""Optional families behind extras, each importable alone: none has moved in yet."""
