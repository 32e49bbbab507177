"""Everything a run keeps on disk: state, checkpoints, events, summary, lock."""
