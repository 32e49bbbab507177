"""Reopens runs: to export them, or as sources of modules."""
