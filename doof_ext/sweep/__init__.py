"""Many runs on Ray: which they are, how they share stage 1, each in a process of its own, and how far all are."""
