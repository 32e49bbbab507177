"""Errors for what a store refuses, each with what to do instead."""

from fastslow.errors import FastslowError


class Refusal(FastslowError):
    """A request that cannot be met; nothing was written."""


class UnknownItem(Refusal):
    """There is no such person, prompt, answer, pair or vote."""


class NotGiven(Refusal):
    """A vote on a pair or answer that the voter was not given, or by a disabled person."""


class KeyReused(Refusal):
    """An idempotency key was used again with another body."""


class AlreadyVoted(Refusal):
    """A second verdict by the same person on the same thing."""


class Malformed(Refusal):
    """A value that a store cannot keep."""


class Fenced(Refusal):
    """A learner may not continue: another one has begun, or the chain has changed."""
