"""The files of a project on disk: what they are, what is staged, how they are put in place."""
