"""Memory estimates, and handling of out-of-memory errors."""
