"""OfflineRL-Kit's own scripts with DOOF plugged in."""
