"""What a store refuses, each with what to do instead."""

from fastslow.errors import FastslowError


class Refusal(FastslowError):
    """A request that cannot be met; nothing was written."""


class UnknownItem(Refusal):
    """There is no such person, prompt, answer, pair or vote."""


class NotGiven(Refusal):
    """A vote on a pair that was not given to who votes, on somebody else's, or of somebody who was
    disabled."""


class KeyReused(Refusal):
    """An idempotency key came a second time with another body."""


class AlreadyVoted(Refusal):
    """A second verdict of the same person on the same thing."""


class Malformed(Refusal):
    """A value that a store cannot keep."""


class Fenced(Refusal):
    """Of a learner that may go on no more: another one has begun, or the chain has changed."""
