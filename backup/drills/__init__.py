"""Restore drills: the proof that a snapshot comes back, how fast, and how old it is, with faults planted to test it."""
