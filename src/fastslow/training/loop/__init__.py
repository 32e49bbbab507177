"""One training step, the loop over batches, and what they need."""
