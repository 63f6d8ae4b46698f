"""Algorithm 1 of the paper, one file per stage; each a function of explicit inputs with explicit outputs."""
