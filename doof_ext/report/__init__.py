"""Figures, tables and a page for a set of runs."""
