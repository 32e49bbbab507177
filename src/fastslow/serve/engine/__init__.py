"""What answers: a model in this process, whose adapters share one base, or an engine by URL."""
