"""Chat completions over OpenAI's protocol, whole or streamed."""

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
    """The server's engine. Raises Refused if it has none."""
    if live.engine is None:
        raise Refused(409, "this server has no engine; start it with model=path/to/model")
    return live.engine


@router.get("/models")
async def models(_: Voter, live: Shared) -> dict[str, Any]:
    """List the models."""
    names = list(live.engine.models) if live.engine else []
    facts = {"object": "model", "created": 0, "owned_by": "fastslow"}
    return {"object": "list", "data": [{"id": name, **facts} for name in names]}


@router.post("/chat/completions", response_model=None)
async def chat(
    request: Request, body: Chat, who: Voter, live: Shared
) -> StreamingResponse | dict[str, Any]:
    """Answer a conversation; answers are stored, so that they can be rated, edited and compared."""
    engine = engine_of(live)
    assigned = live.router.assign(body.conversation(), body.domain)
    body.model = body.model or live.model_for(assigned.domain)
    # Looked up now: the adapter may be unloaded by the end of a long answer.
    by = By(body.model, engine.models.get(body.model), live.update_of(body.model))
    pieces = pieces_of(engine, **_asked(body, live.settings.answer_tokens))
    # Requests are refused before a stream begins.
    first = await unless_gone(request, anext(pieces))
    name = f"chatcmpl-{live.draw.getrandbits(64):016x}"
    if body.stream:
        stream = _stream(live, body, who, assigned, name, by, first, pieces)
        return StreamingResponse(stream, media_type="text/event-stream")
    received = [first, *await unless_gone(request, _all(pieces))]
    answer_ids = await _keep(live, body, who, assigned, by, received)
    return _reply(body, assigned, name, received, answer_ids, live.token_text)


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
    _, answer_ids = await live.write(
        keep_answers,
        messages=body.conversation(),
        domain=assigned.domain,
        routed=assigned.by != "label",
        params=params,
        seed=body.seed,
        given=[(by, answer) for answer in whole(got, body.n)],
        given_to=who.id,
    )
    return answer_ids


def _reply(
    body: Chat,
    assigned: Assigned,
    name: str,
    got: Sequence[Piece],
    numbers: Sequence[int],
    token_text: Callable[[int], str],
) -> dict[str, Any]:
    choices = []
    for index, answer in enumerate(whole(got, body.n)):
        logprobs = _logprobs(answer.token_ids, answer.logps, token_text) if body.logprobs else None
        choices.append(
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": logprobs,
                "finish_reason": answer.finish,
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
    head, received = _head(body, assigned, name, "chat.completion.chunk"), [first]

    def event(**facts: Any) -> str:
        return f"data: {json.dumps({**head, **facts}, ensure_ascii=False)}\n\n"

    for index in range(body.n):
        start = {"role": "assistant", "content": ""}
        yield event(choices=[{"index": index, "delta": start, "finish_reason": None}])
    yield event(choices=[_chunk(body, first, live.token_text)])
    try:
        async for piece in pieces:
            received.append(piece)
            yield event(choices=[_chunk(body, piece, live.token_text)])
        answer_ids = await _keep(live, body, who, assigned, by, received)
    except Exception as error:
        text = json.dumps({"error": {"message": str(error), "type": "server_error"}})
        yield f"data: {text}\n\n"
        return
    usage = _usage(received) if body.stream_options and body.stream_options.include_usage else None
    yield event(choices=[], usage=usage, answer_ids=answer_ids)
    yield "data: [DONE]\n\n"


def _chunk(body: Chat, piece: Piece, token_text: Callable[[int], str]) -> dict[str, Any]:
    delta = {"content": piece.text} if piece.text else {}
    chunk = {"index": piece.index, "delta": delta, "finish_reason": piece.finish}
    if body.logprobs:
        chunk["logprobs"] = _logprobs(piece.token_ids, piece.logps, token_text)
    return chunk


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
    completion = sum(len(piece.token_ids) for piece in got)
    prompt = next((piece.prompt_tokens for piece in got if piece.prompt_tokens), 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _head(body: Chat, assigned: Assigned, name: str, kind: str) -> dict[str, Any]:
    facts = {"id": name, "object": kind, "created": int(time.time()), "model": body.model}
    return {**facts, "domain": assigned.domain, "domain_by": assigned.by}
