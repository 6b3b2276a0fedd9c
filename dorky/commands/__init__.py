"""The commands: functions that take a project and plain values, and never print."""
