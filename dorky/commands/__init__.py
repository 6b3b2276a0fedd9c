"""What each command does: functions that take a project and plain values, and never print."""
