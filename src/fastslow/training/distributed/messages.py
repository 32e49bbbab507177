"""Messages between processes: JSON as bytes in a tensor. Nothing is pickled."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.distributed
from torch import Tensor

import fastslow.errors as errors
from fastslow.errors import FastslowError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Converts a value to JSON and back."""

    encode: Callable[[T], Any]
    decode: Callable[[Any], T]


def list_of(codec: Codec[T]) -> Codec[list[T]]:
    """A codec for lists of the values that `codec` converts."""
    return Codec(
        lambda values: [codec.encode(value) for value in values],
        lambda sent: [codec.decode(value) for value in sent],
    )


def _same(value: Any) -> Any:
    return value


PLAIN: Codec[Any] = Codec(_same, _same)
"""For what is JSON already: numbers, strings, None, and lists and dicts of them."""


def _encode_error(error: FastslowError) -> list[Any]:
    """The error's class and texts; a class outside `errors` becomes its nearest base there."""
    kind = next(base for base in type(error).__mro__ if base.__module__ == errors.__name__)
    return [kind.__name__, *getattr(error, "problems", [str(error)])]


def _decode_error(sent: list[Any]) -> FastslowError:
    kind, *texts = sent
    error: FastslowError = getattr(errors, kind)(*texts)
    return error


ERROR: Codec[FastslowError] = Codec(_encode_error, _decode_error)
"""For fastslow's own errors."""


def broadcast(value: Any, device: torch.device, *, sends: bool) -> Any:
    """The value of the one process that sends, which must be JSON."""
    data = _bytes_of(value, device) if sends else torch.empty(0, dtype=torch.uint8, device=device)
    size = torch.tensor([len(data)], device=device)
    torch.distributed.broadcast(size, 0)
    if not sends:
        data = data.new_empty(int(size))
    torch.distributed.broadcast(data, 0)
    return value if sends else _value_of(data)


def all_gather(value: Any, device: torch.device, *, size: int) -> list[Any]:
    """The values of all `size` processes, in their order; each must be JSON."""
    data = _bytes_of(value, device)
    lengths = torch.empty(size, dtype=torch.int64, device=device)
    torch.distributed.all_gather_into_tensor(lengths, torch.tensor([len(data)], device=device))
    longest = int(lengths.max())
    padded = torch.cat([data, data.new_zeros(longest - len(data))])
    rows = data.new_empty(size * longest)
    torch.distributed.all_gather_into_tensor(rows, padded)
    parts = zip(rows.view(size, longest), lengths.tolist(), strict=True)
    return [_value_of(row[:length]) for row, length in parts]


def _bytes_of(value: Any, device: torch.device) -> Tensor:
    text = bytearray(json.dumps(value).encode())
    return torch.frombuffer(text, dtype=torch.uint8).to(device)


def _value_of(data: Tensor) -> Any:
    return json.loads(data.cpu().numpy().tobytes())
