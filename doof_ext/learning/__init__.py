"""What learns: the ensemble dynamics, the policies in it, and the buffers that they learn from."""
