"""Examples to token trees: chat templates, tokens, truncation. Imports no torch."""
