"""What is done with a remote: its root, pushing, fetching."""
