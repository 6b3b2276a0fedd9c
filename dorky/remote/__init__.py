"""The remote: its root, push, fetch, garbage collection and purge."""
