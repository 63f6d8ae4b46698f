"""Stage 3 outside the run: in a control loop of the user's own, or as files of steps that were collected elsewhere."""
