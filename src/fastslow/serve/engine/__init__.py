"""What answers: a model in a process beside the server's, or an engine by URL."""
