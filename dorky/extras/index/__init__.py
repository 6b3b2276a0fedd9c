"""Python packages in a repository, and the Simple Repository API on top."""
