"""Answers over OpenAI's protocol, as its clients and their streams expect them."""

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from fastslow.feedback.people import Principal
from fastslow.serve.answering import By, Engine, keep_answers, pieces_of
from fastslow.serve.bodies import Chat
from fastslow.serve.disconnects import unless_gone
from fastslow.serve.engine.requests import Piece, whole
from fastslow.serve.live import Live
from fastslow.serve.replies import Refused
from fastslow.serve.router import Assigned
from fastslow.serve.routes.voting import Shared, Voter

router = APIRouter(prefix="/v1")


def engine_of(live: Live) -> Engine:
    """The server's engine; refused where it has none."""
    if live.engine is None:
        raise Refused(409, "this server has no engine; start it with model=path/to/model")
    return live.engine


@router.get("/models")
async def models(_: Voter, live: Shared) -> dict[str, Any]:
    """What can be asked."""
    names = list(live.engine.models) if live.engine else []
    facts = {"object": "model", "created": 0, "owned_by": "fastslow"}
    return {"object": "list", "data": [{"id": name, **facts} for name in names]}


@router.post("/chat/completions", response_model=None)
async def chat(
    request: Request, body: Chat, who: Voter, live: Shared
) -> StreamingResponse | dict[str, Any]:
    """Answers to a conversation, kept so that they can be rated, edited and compared."""
    engine = engine_of(live)
    assigned = live.router.assign(body.conversation(), body.domain)
    body.model = body.model or live.model_for(assigned.domain)
    # By the end of a long answer its adapter may have gone.
    by = By(body.model, engine.models.get(body.model), live.update_of(body.model))
    pieces = pieces_of(engine, **_asked(body, live.settings.answer_tokens))
    first = await unless_gone(
        request, anext(pieces)
    )  # What is refused is so before a stream has begun.
    name = f"chatcmpl-{live.draw.getrandbits(64):016x}"
    if body.stream:
        stream = _stream(live, body, who, assigned, name, by, first, pieces)
        return StreamingResponse(stream, media_type="text/event-stream")
    got = [first, *await unless_gone(request, _all(pieces))]
    numbers = await _keep(live, body, who, assigned, by, got)
    return _reply(body, assigned, name, got, numbers, live.token_text)


async def _all(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


def _asked(body: Chat, most: int) -> dict[str, Any]:
    return {
        "messages": body.conversation(),
        "model": body.model,
        "count": body.n,
        "seed": body.seed,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_tokens": body.max_completion_tokens or body.max_tokens or most,
        "stop": _stops(body),
    }


def _stops(body: Chat) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


async def _keep(
    live: Live, body: Chat, who: Principal, assigned: Assigned, by: By, got: Sequence[Piece]
) -> list[int]:
    params = {
        "temperature": body.temperature, "top_p": body.top_p, "stop": list(_stops(body)),
    }  # fmt: skip
    _, numbers = await live.write(
        keep_answers,
        messages=body.conversation(),
        domain=assigned.domain,
        routed=assigned.by != "label",
        params=params,
        seed=body.seed,
        given=[(by, one) for one in whole(got, body.n)],
        given_to=who.id,
    )
    return numbers


def _reply(
    body: Chat,
    assigned: Assigned,
    name: str,
    got: Sequence[Piece],
    numbers: Sequence[int],
    token_text: Callable[[int], str],
) -> dict[str, Any]:
    choices = []
    for index, one in enumerate(whole(got, body.n)):
        logprobs = _logprobs(one.token_ids, one.logps, token_text) if body.logprobs else None
        choices.append(
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text, "refusal": None},
                "logprobs": logprobs,
                "finish_reason": one.finish,
            }
        )
    return {
        **_head(body, assigned, name, "chat.completion"),
        "choices": choices,
        "usage": _usage(got),
        "answer_ids": list(numbers),
    }


async def _stream(
    live: Live,
    body: Chat,
    who: Principal,
    assigned: Assigned,
    name: str,
    by: By,
    first: Piece,
    pieces: AsyncIterator[Piece],
) -> AsyncIterator[str]:
    head, got = _head(body, assigned, name, "chat.completion.chunk"), [first]

    def event(**facts: Any) -> str:
        return f"data: {json.dumps({**head, **facts}, ensure_ascii=False)}\n\n"

    for index in range(body.n):
        start = {"role": "assistant", "content": ""}
        yield event(choices=[{"index": index, "delta": start, "finish_reason": None}])
    yield event(choices=[_chunk(body, first, live.token_text)])
    try:
        async for piece in pieces:
            got.append(piece)
            yield event(choices=[_chunk(body, piece, live.token_text)])
        numbers = await _keep(live, body, who, assigned, by, got)
    except Exception as error:
        text = json.dumps({"error": {"message": str(error), "type": "server_error"}})
        yield f"data: {text}\n\n"
        return
    usage = _usage(got) if body.stream_options and body.stream_options.include_usage else None
    yield event(choices=[], usage=usage, answer_ids=numbers)
    yield "data: [DONE]\n\n"


def _chunk(body: Chat, piece: Piece, token_text: Callable[[int], str]) -> dict[str, Any]:
    delta = {"content": piece.text} if piece.text else {}
    found = {"index": piece.index, "delta": delta, "finish_reason": piece.finish}
    if body.logprobs:
        found["logprobs"] = _logprobs(piece.token_ids, piece.logps, token_text)
    return found


def _logprobs(
    tokens: Sequence[int], logps: Sequence[float], token_text: Callable[[int], str]
) -> dict[str, Any]:
    content = []
    for token, logp in zip(tokens, logps, strict=True):
        text = token_text(token)
        facts = {"token": text, "logprob": logp, "bytes": list(text.encode())}
        content.append({**facts, "top_logprobs": []})
    return {"content": content, "refusal": None}


def _usage(got: Sequence[Piece]) -> dict[str, int]:
    made = sum(len(piece.token_ids) for piece in got)
    read = next((piece.prompt_tokens for piece in got if piece.prompt_tokens), 0)
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def _head(body: Chat, assigned: Assigned, name: str, kind: str) -> dict[str, Any]:
    facts = {"id": name, "object": kind, "created": int(time.time()), "model": body.model}
    return {**facts, "domain": assigned.domain, "domain_by": assigned.by}
