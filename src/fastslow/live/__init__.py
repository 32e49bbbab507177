"""Turns votes into updates while a server answers: plan, learn, test, then serve or quarantine.

One process learns. It shares only the store and the folder with the server, so either may die at
any point. `process` is its loop, `lessons` learns one update, `gate` is what it must pass.
"""
