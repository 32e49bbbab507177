"""What an update must pass before it answers: checks of the adapter as it would be served.

It is compared with the adapter that answers now (the champion) and with the last one that a person
approved (the anchor). `gate` runs the checks; each of the other files says what it tests and why.
The thresholds are `live.gate` of a recipe.
"""
