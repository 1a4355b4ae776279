"""Runs that are killed: at every event that code and files tell (enumerated), at random (soak)."""
