"""What is handed over at different learning rates: true reward and KL of every domain's policy."""
