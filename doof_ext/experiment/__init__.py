"""One run on disk: its directory, logs, artifacts, provenance, and how it ended."""
