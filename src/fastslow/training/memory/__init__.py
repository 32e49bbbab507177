"""How much memory a run takes, and what happens when it runs out."""
