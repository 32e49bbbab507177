"""The Python API: what `fastslow` exports. The command line's verbs call exactly these functions."""
