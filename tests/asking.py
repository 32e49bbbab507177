"""One request to an engine of the server, and what it tells of it."""

import queue

from fastslow.serve.engine.requests import Ask


def begin(engine, text="Hi", **facts):
    """The request, and the queue that its pieces come to."""
    got = queue.Queue()
    request = Ask([{"role": "user", "content": text}], got.put, **facts)
    engine.submit(request)
    return request, got


def pieces_of(got, count=1):
    """All pieces, once every answer has ended. Raises what the engine failed with."""
    pieces, going = [], count
    while going:
        piece = got.get(timeout=60)
        if isinstance(piece, Exception):
            raise piece
        pieces.append(piece)
        going -= piece.finish is not None
    return pieces
