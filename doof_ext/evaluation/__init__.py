"""What a run is judged by: returns, the dynamics distance, and the data's consistency."""
