"""The whole story of one message, across all servers that it touched.

Each server is asked what its own log tells; the answers are joined. An event that several servers
hold is one step, and where two servers hold different bytes at one place of a stream, both are
shown as disputed. A server that does not answer in time is named as away: its part is missing, and
nobody is to take the story for whole.

The order is that of cause, not of clocks: whatever stood in a server's log before something that
the server itself recorded, comes before it. Only what is left open by that is ordered by the time
that stands in the events.

Source: claims 1, 3, 5, 7 and 8.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.caller import CallerState, SeenCaller
from ledger.errors import LedgerError, PeerError
from ledger.events import AnyCaller, Caller, ServerId
from ledger.migration.link import BusyError, PeerClient, PeerLink, RejectedError, UnreachableError
from ledger.migration.stories import StoryTeller
from ledger.migration.wire import StoryAnswer, StoryRequest, WireEvent
from ledger.offload import Offload
from ledger.storage.callers import Callers
from vmledger.story_words import describe

MOST_WAIT_S: Final = 30.0
"""However long somebody is willing to wait for servers that are away."""

_Place: TypeAlias = tuple[str, int, bytes]
"""Stream, version and bytes: one event, whoever holds it."""


class Witness(Enum):
    """What became of the question to one server."""

    TOLD = "told"
    KNOWS_NOTHING = "knows-nothing"
    """Its log does not tell of the message."""
    AWAY = "away"
    """It did not answer in time: what it knows is missing here."""
    REFUSED = "refused"
    """It answered, but not this question: a server of another release, or with another
    configuration."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A server that was asked."""

    server: ServerId
    answer: Witness
    position: int | None
    """Where its log ended when it told; null when it did not."""
    left_out: int
    """Events that were too many for its answer."""
    detail: str
    """Why it did not tell; empty when it did."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the story."""

    recorded_at: datetime
    """By the clock of the server that recorded it."""
    recorded_by: ServerId
    event: str
    """Its topic."""
    text: str
    """What happened, in one sentence; who called, if this server has the key."""
    is_about_message: bool
    """Otherwise it tells of the way to the message's home meanwhile."""
    is_disputed: bool
    """Servers hold different events at this place of the stream."""
    positions: dict[str, int]
    """Where it stands in the log of each server that holds it and was asked."""
    fields: dict[str, Any]
    """The event itself; who called may be sealed in it."""


class WholeStory(msgspec.Struct, frozen=True, kw_only=True):
    """What all servers together tell of a message."""

    message_id: UUID
    call_id: UUID | None
    is_whole: bool
    """Did every server answer, and leave nothing out?"""
    servers: list[Asked]
    steps: list[Step]
    """In the order of cause."""


class StoryCollector:
    """Asks this server and all its peers. For one event loop."""

    def __init__(
        self,
        this_server: ServerId,
        teller: StoryTeller,
        links: Mapping[ServerId, PeerLink],
        *,
        callers: Callers,
        offload: Offload,
    ) -> None:
        self._this_server = this_server
        self._teller = teller
        self._callers = callers
        self._offload = offload
        self._clients = {peer: PeerClient(link) for peer, link in links.items()}

    async def collect(self, message_id: UUID, asked_by: str, wait_s: float) -> WholeStory:
        """Ask everybody at once, and wait no longer than that for the answers.

        Whoever did not know the message without its call is asked again when another server named
        the call, within the same time.
        """
        deadline_s = asyncio.get_running_loop().time() + min(wait_s, MOST_WAIT_S)
        own = await self._teller.tell(message_id, None)
        answers: dict[ServerId, StoryAnswer | LedgerError] = {self._this_server: own}
        peers = list(self._clients)
        call_id = find_call([own])
        request = StoryRequest(message_id=message_id, call_id=call_id, asked_by=asked_by[:200])
        answers |= await self._ask_all(peers, request, deadline_s)
        named = find_call(_told(answers))
        if call_id is None and named is not None:
            again = [peer for peer in peers if _knows_nothing(answers[peer])]
            request = msgspec.structs.replace(request, call_id=named)
            answers |= await self._ask_all(again, request, deadline_s)
            answers[self._this_server] = await self._teller.tell(message_id, named)
        made_by = find_callers(_told(answers))
        seen = await self._offload(lambda: self._callers.see(made_by))
        return join(message_id, named, answers, dict(zip(made_by, seen, strict=True)))

    async def _ask_all(
        self, peers: Sequence[ServerId], request: StoryRequest, deadline_s: float
    ) -> dict[ServerId, StoryAnswer | LedgerError]:
        found = await asyncio.gather(*(self._ask(peer, request, deadline_s) for peer in peers))
        return dict(zip(peers, found, strict=True))

    async def _ask(
        self, peer: ServerId, request: StoryRequest, deadline_s: float
    ) -> StoryAnswer | LedgerError:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._clients[peer].story(request)
        except TimeoutError:
            return UnreachableError(f"server {peer} did not answer in time")
        except LedgerError as error:
            return error


def _told(answers: Mapping[ServerId, StoryAnswer | LedgerError]) -> list[StoryAnswer]:
    return [answer for answer in answers.values() if isinstance(answer, StoryAnswer)]


def _knows_nothing(answer: StoryAnswer | LedgerError) -> bool:
    return isinstance(answer, StoryAnswer) and not answer.events


class _Named(msgspec.Struct):
    """What an event says of the call, if it does."""

    event: str
    originator_id: UUID
    call_id: UUID | None = None


def find_call(told: Iterable[StoryAnswer]) -> UUID | None:
    """Find the call in what was told; None when nobody told anything."""
    for answer in told:
        for wired in answer.events:
            named = msgspec.json.decode(wired.plain, type=_Named)
            if named.event == "message-stored":
                return named.originator_id
            if named.call_id is not None:
                return named.call_id
    return None


class _Received(msgspec.Struct):
    """What a call's first event says of who called."""

    originator_id: UUID
    personal: AnyCaller


def _caller_of(plain: bytes | msgspec.Raw) -> tuple[UUID, AnyCaller] | None:
    """Give a call and who made it; None for an event that does not tell."""
    try:
        received = msgspec.json.decode(plain, type=_Received)
    except msgspec.DecodeError:
        return None
    return received.originator_id, received.personal


def find_callers(told: Iterable[StoryAnswer]) -> list[tuple[UUID, AnyCaller]]:
    """Find who made the call: one, unless servers hold different events at its place."""
    events = (wired.plain for answer in told for wired in answer.events)
    return list(dict.fromkeys(found for plain in events if (found := _caller_of(plain))))


def join(
    message_id: UUID,
    call_id: UUID | None,
    answers: Mapping[ServerId, StoryAnswer | LedgerError],
    callers: Mapping[tuple[UUID, AnyCaller], SeenCaller] = MappingProxyType({}),
) -> WholeStory:
    """Join what servers told into one story; ``callers`` is who made its call, opened."""
    servers = [_asked(server, answer) for server, answer in answers.items()]
    told = _told(answers)
    is_whole = all(
        asked.answer in (Witness.TOLD, Witness.KNOWS_NOTHING) and not asked.left_out
        for asked in servers
    )
    return WholeStory(
        message_id=message_id,
        call_id=call_id,
        is_whole=is_whole,
        servers=servers,
        steps=_in_order_of_cause(_events(told, callers), told),
    )


def _asked(server: ServerId, answer: StoryAnswer | LedgerError) -> Asked:
    if isinstance(answer, StoryAnswer):
        return Asked(
            server=server,
            answer=Witness.TOLD if answer.events else Witness.KNOWS_NOTHING,
            position=answer.position,
            left_out=answer.left_out,
            detail="",
        )
    is_there = isinstance(answer, RejectedError | BusyError) or (
        isinstance(answer, PeerError) and not isinstance(answer, UnreachableError)
    )
    return Asked(
        server=server,
        answer=Witness.REFUSED if is_there else Witness.AWAY,
        position=None,
        left_out=0,
        detail=answer.message,
    )


def _events(
    told: Iterable[StoryAnswer], callers: Mapping[tuple[UUID, AnyCaller], SeenCaller]
) -> dict[_Place, Step]:
    """Give each event once, with all that hold it."""
    steps: dict[_Place, Step] = {}
    holders: defaultdict[tuple[str, int], set[bytes]] = defaultdict(set)
    for answer in told:
        for wired, is_about in _wired(answer):
            place, fields = _place(wired)
            holders[place[:2]].add(place[2])
            known = steps.get(place)
            if known is not None:
                known.positions[answer.server] = wired.position
                continue
            steps[place] = Step(
                recorded_at=msgspec.convert(fields["recorded_at"], datetime),
                recorded_by=fields["recorded_by"],
                event=fields["event"],
                text=describe(fields, _seen(wired, callers)),
                is_about_message=is_about,
                is_disputed=False,
                positions={answer.server: wired.position},
                fields=fields,
            )
    return {
        place: msgspec.structs.replace(step, is_disputed=len(holders[place[:2]]) > 1)
        for place, step in steps.items()
    }


def _seen(
    wired: WireEvent, callers: Mapping[tuple[UUID, AnyCaller], SeenCaller]
) -> SeenCaller | None:
    received = _caller_of(wired.plain)
    if received is not None and isinstance(received[1], Caller):
        return SeenCaller(state=CallerState.KNOWN, caller=received[1])
    return callers.get(received) if received is not None else None


def _wired(answer: StoryAnswer) -> Iterable[tuple[WireEvent, bool]]:
    yield from ((wired, True) for wired in answer.events)
    yield from ((wired, False) for wired in answer.around)


def _place(wired: WireEvent) -> tuple[_Place, dict[str, Any]]:
    plain = bytes(wired.plain)
    fields: dict[str, Any] = msgspec.json.decode(plain)
    return (fields["originator_id"], fields["originator_version"], plain), fields


def _in_order_of_cause(steps: Mapping[_Place, Step], told: Iterable[StoryAnswer]) -> list[Step]:
    """Sort so that causes come first, and else by time; a circle is broken at its earliest time."""
    after: defaultdict[_Place, set[_Place]] = defaultdict(set)
    waits_for: dict[_Place, int] = dict.fromkeys(steps, 0)
    told = list(told)
    for earlier, later in itertools.chain(
        *(_causes(answer, steps) for answer in told), _receipts(steps, told)
    ):
        if later not in after[earlier]:
            after[earlier].add(later)
            waits_for[later] += 1
    ready = [(steps[place].recorded_at, place) for place, count in waits_for.items() if not count]
    heapq.heapify(ready)
    ordered: list[Step] = []
    while waits_for:
        if not ready:  # No honest logs: some server says that an effect came before its cause.
            first = min(waits_for, key=lambda place: (steps[place].recorded_at, place))
            ready.append((steps[first].recorded_at, first))
        _, place = heapq.heappop(ready)
        if waits_for.pop(place, None) is None:
            continue
        ordered.append(steps[place])
        for later in after[place]:
            if later in waits_for:
                waits_for[later] -= 1
                if not waits_for[later]:
                    heapq.heappush(ready, (steps[later].recorded_at, later))
    return ordered


def _causes(answer: StoryAnswer, steps: Mapping[_Place, Step]) -> Iterable[tuple[_Place, _Place]]:
    """Give pairs of cause and effect that one log proves.

    What a server copied from others came in at a moment that has nothing to do with when it
    happened; but it was there before whatever the server itself recorded next.
    """
    in_log = sorted(_wired(answer), key=lambda pair: pair[0].position)
    copied: list[_Place] = []
    for wired, _ in in_log:
        place, _ = _place(wired)
        if steps[place].recorded_by == answer.server:
            yield from ((earlier, place) for earlier in copied)
            copied = [place]
        else:
            copied.append(place)
    streams: defaultdict[str, list[_Place]] = defaultdict(list)
    for wired, _ in in_log:
        place, _ = _place(wired)
        streams[place[0]].append(place)
    for stream in streams.values():
        yield from itertools.pairwise(sorted(stream, key=lambda place: place[1]))


def _receipts(
    steps: Mapping[_Place, Step], told: Iterable[StoryAnswer]
) -> Iterable[tuple[_Place, _Place]]:
    """Give pairs of what a home had recorded, and the receipt that it then gave."""
    logs = {answer.server: answer for answer in told}
    for place, step in steps.items():
        home = logs.get(step.fields.get("home", "")) if step.event == "message-migrated" else None
        reached = step.fields.get("home_position")
        if home is None or not isinstance(reached, int):
            continue
        for wired, _ in _wired(home):
            before, _ = _place(wired)
            if wired.position <= reached and steps[before].recorded_by == home.server:
                yield before, place
