"""What a run is judged by: the dynamics distance."""
