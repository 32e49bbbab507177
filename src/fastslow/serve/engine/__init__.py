"""Engines: a model in a process beside the server's, or a remote engine by URL."""
