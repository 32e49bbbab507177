"""The Python API: what `fastslow` exports, and what the command line's verbs call."""
