"""Comparing and merging: two versions of a file, or two lines of commits."""
