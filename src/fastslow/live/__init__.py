"""Votes become updates while a server answers: planned, learned, tested, and served or set aside.

One process learns; it meets the server in the store and in the folder only, so that either may die
at any point. `process` is its loop, `lessons` what one update is, `gate` what it must pass.
"""
