"""Two versions of a file, or two lines of commits: compared and merged."""
