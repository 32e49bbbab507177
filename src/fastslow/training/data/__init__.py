"""Rows to batches: datasets, readers, what is skipped and counted."""
