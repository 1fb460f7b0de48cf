"""Changes to the structure of a JSON document, so that a fuzzer gets past its syntax.

A document may hold placeholders like ``"$digest0"``, for what a writer would compute from the rest
of it: a target puts the right values in their place, so that a change somewhere does not always
end at the first digest.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

RawMutation = Callable[[bytes, int], bytes]
"""Changes bytes in the fuzzer's own way; gets the greatest length of the result."""

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1.5, 1e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63)),
    *(2**64, 10**30, "", "a", "0", "\0", "\n", "\x7f", "é", "\u2028", "💣", "a" * 300, [], {}),
    *([[]], [None], {"": None}, "0" * 64, "f" * 64, "00000000-0000-0000-0000-000000000000"),
    *("alpha", "bravo", "charlie", "2001@default", "2001", "1001@default", "@", "2001@", "1*"),
    *("2026-03-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"),
)


def read_list(data: bytes) -> list[Any] | None:
    """Give the JSON list that an input is; None when it is anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, list) else None


def changed(data: bytes, max_bytes: int, seed: int, raw: RawMutation) -> bytes:
    """Give a changed document; what is no JSON is changed as bytes."""
    rng = random.Random(seed)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return raw(data, max_bytes)
    if rng.random() < 0.1:
        return raw(data, max_bytes)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        document = _change(document, rng, raw)
    result = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return result if len(result) <= max_bytes else raw(data, max_bytes)


def _change(document: Any, rng: random.Random, raw: RawMutation) -> Any:
    places = list(_places(document))
    if not places:
        return rng.choice(ODD_VALUES)
    holder, key = rng.choice(places)
    other_holder, other_key = rng.choice(places)
    match rng.randrange(7):
        case 0:
            holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        case 1:
            holder[key] = copy.deepcopy(other_holder[other_key])
        case 2:
            del holder[key]
        case 3 if isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        case 3:
            holder[rng.choice(["x", *_names(document)])] = copy.deepcopy(holder[key])
        case 4:
            own = copy.deepcopy(holder[key])
            holder[key] = copy.deepcopy(other_holder[other_key])
            if _is_there(other_holder, other_key):
                other_holder[other_key] = own
        case _:
            holder[key] = _changed_value(holder[key], rng, raw)
    # Two places may have come to share a part, or one to hold itself: a copy has neither.
    return json.loads(json.dumps(document))


def _changed_value(value: Any, rng: random.Random, raw: RawMutation) -> Any:
    match value:
        case bool() | None:
            return not value
        case int() | float():
            return rng.choice((value + 1, value - 1, -value, value * 2, rng.getrandbits(8)))
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return raw(text, len(text) + 20).decode("utf-8", "replace")
        case list():
            return rng.sample(value, len(value))
        case _:
            return [value]


def _places(node: Any) -> Any:
    """Give each value as the container and the key it is under."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield node, key
            yield from _places(value)


def _names(document: Any) -> list[str]:
    return [key for _, key in _places(document) if isinstance(key, str)]


def _is_there(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)
