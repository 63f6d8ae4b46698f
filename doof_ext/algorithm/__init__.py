"""Algorithm 1 of the paper: its five stages, one file each, and the loop over rounds.

A stage is a function of explicit inputs that returns explicit outputs: it opens no file and changes nothing that it
was given.
"""
