"""True reward and KL of every domain's policy at different learning rates."""
