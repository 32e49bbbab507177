"""What an update must pass before it answers: checks of the adapter as it would be served, beside
the one that answers now (the champion) and the last that a person approved (the anchor).

`gate` runs them, a file each says what is tested and why; the thresholds are `live.gate` of a
recipe.
"""
