"""What all fuzzers ask of what they call: it ends soon, and only with errors meant for users."""

import contextlib
import signal

from fastslow.errors import LONGEST, FastslowError


class Hang(BaseException):
    """Nothing but a test catches it."""


@contextlib.contextmanager
def within(seconds):
    """Inside, what takes longer raises Hang."""

    def ring(*_):
        raise Hang(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault(call, *, seconds=20):
    """What is wrong with how a call ended; None where it worked, or raised an error of ours."""
    try:
        with within(seconds):
            call()
    except FastslowError as error:
        text = str(error)
        return f"{len(text)} characters: {text[:200]}" if len(text) > LONGEST else None
    except BaseException as error:  # Whatever there is: SystemExit and Hang among it.
        return f"{type(error).__name__}: {str(error)[:300]}"
    return None
