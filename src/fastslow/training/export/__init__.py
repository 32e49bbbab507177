"""Finished runs, opened again: exported, or named as sources of modules."""
