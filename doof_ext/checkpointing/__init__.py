"""Checkpoints: what a run's future depends on, where it is stored, and the signals that ask for it."""
