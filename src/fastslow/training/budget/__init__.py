"""The KL budget: how far a policy may be from where it started."""
