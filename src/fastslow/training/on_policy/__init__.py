"""Learning from the policy's own completions: sampled, judged, appraised."""
