"""The files of a project on disk: walking, staging, and putting them in place."""
