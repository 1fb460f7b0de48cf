"""Two servers as a bounded model: what each step can lead to, decided by the program's own tables.

The origin takes up to three calls and ships each message, the home takes them in. What the worker
and the home decide is asked of `ledger.migration.protocol` itself: the table of states, the
judgement of a contact, the relation of a batch. Only what lies around it is modelled: what each
side has durably, what it forgets when it crashes, and a network that loses, delays and repeats.

A log is the tuple of its messages' numbers, one position each, and a Merkle root is the tuple
written out: two logs have the same root exactly if they hold the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple
from uuid import UUID

from ledger.migration import protocol
from ledger.migration.protocol import (
    Action,
    BatchRelation,
    HomeAction,
    Judgement,
    OriginInput,
    OriginState,
    OwnLog,
    Step,
)
from ledger.migration.wire import BatchHeader, TrackedRow

Log = tuple[int, ...]
Row = tuple[int, int, Log]
"""(incarnation, position, the origin's log up to there)."""
_S, _I = OriginState, OriginInput
_WINDOW = 2
"""Batches in flight."""
_MOST_STEPS = 20


@dataclass(frozen=True)
class Rules:
    """What decides: the program's own functions, or some of them deliberately wrong."""

    step: Callable[[OriginState, OriginInput], Step] = protocol.step
    judge: Callable[[OwnLog, Sequence[TrackedRow], str | None], Judgement] = protocol.judge_contact
    relate: Callable[[Sequence[TrackedRow], BatchHeader], BatchRelation] = protocol.relate
    home_table: Mapping[BatchRelation, HomeAction] = field(
        default_factory=lambda: protocol.HOME_TABLE
    )
    resume: Callable[[int, int], int] = min
    """(own cursor, the home's word) -> where to go on: `Progress.resume`."""
    skips_held: bool = True
    """A message that is held is not delivered again: `Assembly`."""
    commits_before_it_answers: bool = True


@dataclass(frozen=True)
class Bounds:
    """How much may happen."""

    messages: int = 3
    crashes: int = 2
    losses: int = 2
    """Requests or answers that do not come in time; the request may still arrive later."""
    repeats: int = 1
    """Requests that arrive twice."""
    restores_home: int = 0
    restores_origin: int = 0


class Request(NamedTuple):
    """A request on its way; ``log`` and the positions are of batches only."""

    number: int
    incarnation: int
    after: int = -1
    through: int = -1
    log: Log = ()
    """The origin's log up to ``through``."""

    @property
    def is_batch(self) -> bool:
        return self.after >= 0


class Answer(NamedTuple):
    """An answer on its way back. Without rows and receipt it is a gap."""

    number: int
    rows: tuple[Row, ...] | None = None
    """To a contact."""
    receipt: Row | None = None


class World(NamedTuple):
    """Everything at one moment."""

    # The origin, durably.
    log: Log = ()
    receipts: frozenset[int] = frozenset()
    incarnation: int = 1
    incarnations: frozenset[int] = frozenset({1})
    cursor: tuple[int, int] = (0, 0)
    """(incarnation, position), a hint."""
    # The origin, until it crashes.
    state: OriginState = _S.CONTACTING
    acknowledged: int = 0
    made: int = 0
    building: int = 0
    """The incarnation whose batches are made."""
    asked: int = 0
    """Number of the contact that waits for its answer."""
    in_flight: tuple[tuple[int, int], ...] = ()
    """(number, through) of batches, the oldest first."""
    strangers: tuple[int, ...] = ()
    # The home, durably.
    rows: tuple[Row, ...] = ()
    held: Log = ()
    """The messages in the order in which they were delivered."""
    # The network.
    requests: frozenset[Request] = frozenset()
    answers: frozenset[Answer] = frozenset()
    # What may still happen, and what was kept for it.
    calls: int = 0
    """Messages that were taken so far, also by a log that went back since."""
    crashes: int = 0
    losses: int = 0
    repeats: int = 0
    home_restores: int = 0
    origin_restores: int = 0
    home_backup: tuple[tuple[Row, ...], Log] | None = None
    origin_backup: tuple[Log, frozenset[int], int, frozenset[int], tuple[int, int]] | None = None


def _text(log: Log) -> str:
    return ",".join(map(str, log))


@cache
def _tracked(rows: tuple[Row, ...]) -> tuple[TrackedRow, ...]:
    return tuple(
        TrackedRow(incarnation=UUID(int=i), position=p, root=_text(log)) for i, p, log in rows
    )


@cache
def _header(batch: Request) -> BatchHeader:
    return BatchHeader(
        origin="origin",
        home="home",
        incarnation=UUID(int=batch.incarnation),
        contact="",
        after_position=batch.after,
        after_root=_text(batch.log[: batch.after]),
        through_position=batch.through,
        through_root=_text(batch.log),
    )


class Model:
    """Says what can follow a moment."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self._rules = rules
        self._bounds = bounds

    def start(self) -> World:
        """Give the moment at which both servers have nothing and the origin makes contact."""
        return self._go_on(World())

    def successors(self, now: World) -> Iterator[tuple[str, World]]:
        """Give all that can happen next."""
        happens = (
            self._origin_acts,
            self._answers_arrive,
            self._answers_do_not_come,
            self._requests_arrive,
            self._misfortunes,
        )
        for some in happens:
            for what, then in some(now):
                yield what, _forget_numbers(self._go_on(then))

    # --- the origin ---------------------------------------------------------------------------

    def _origin_acts(self, now: World) -> Iterator[tuple[str, World]]:
        if now.calls < self._bounds.messages:
            number = now.calls + 1
            yield f"call {number}", now._replace(log=(*now.log, number), calls=number)
        if now.state in (_S.RESTING, _S.WAITING, _S.HALTED, _S.IDLE):
            yield "timer", self._follow(now, _I.TIMER)
        if now.state is _S.REINCARNATING:
            yield "reincarnate", self._reincarnate(now)

    def _go_on(self, now: World) -> World:
        """Let the origin send what it can.

        To send later can lead to nothing else: what is sent may lie on the network as long as it
        likes, and what never arrives may as well not have been sent.
        """
        for _ in range(_MOST_STEPS):
            then = self._next_of_its_own(now)
            if then is now:
                return now
            now = then
        raise AssertionError("the origin goes round in circles without anything happening")

    def _next_of_its_own(self, now: World) -> World:
        if now.state is _S.IDLE and len(now.log) > now.made:
            return self._follow(now, _I.NEW_EVENTS)
        if now.state is _S.CONTACTING and not now.asked:
            request = Request(_free_number(now), now.incarnation)
            return now._replace(asked=request.number, requests=now.requests | {request})
        return self._fill(now) if now.state is _S.STREAMING else now

    def _fill(self, now: World) -> World:
        if now.incarnation != now.building:
            return self._follow(now, _I.GAP)
        if len(now.in_flight) < _WINDOW and now.made < len(now.log):
            number, through = _free_number(now), now.made + 1
            request = Request(number, now.incarnation, now.made, through, now.log[:through])
            return now._replace(
                made=through,
                in_flight=(*now.in_flight, (number, through)),
                requests=now.requests | {request},
            )
        return now if now.in_flight else self._follow(now, _I.CAUGHT_UP)

    def _reincarnate(self, now: World) -> World:
        new = max(now.incarnations | set(now.strangers) | {now.incarnation}) + 1
        known = now.incarnations | {new, *now.strangers}
        durable = now._replace(incarnation=new, incarnations=known, strangers=())
        return self._follow(durable, _I.REINCARNATED)

    def _follow(self, now: World, given: OriginInput) -> World:
        """Let the worker's table say what an input leads to."""
        found = self._rules.step(now.state, given)
        then = now._replace(state=found.next)
        if Action.DROP_IN_FLIGHT in found.actions:
            dropped = {number for number, _ in then.in_flight}
            answers = frozenset(a for a in then.answers if a.number not in dropped)
            then = then._replace(in_flight=(), answers=answers)
        return then

    # --- answers ------------------------------------------------------------------------------

    def _answers_arrive(self, now: World) -> Iterator[tuple[str, World]]:
        for answer in now.answers:
            taken = now._replace(answers=now.answers - {answer})
            if answer.number == now.asked:
                yield "contact", self._judge(taken._replace(asked=0), answer)
            elif now.in_flight and answer.number == now.in_flight[0][0]:
                yield from self._acknowledge(taken, answer)

    def _judge(self, now: World, answer: Answer) -> World:
        assert answer.rows is not None
        own = OwnLog(
            UUID(int=now.incarnation),
            len(now.log),
            frozenset(UUID(int=each) for each in now.incarnations),
        )
        mine = next((row for row in answer.rows if row[0] == now.incarnation), None)
        reaches = mine is not None and mine[1] <= len(now.log)
        root = _text(now.log[: mine[1]]) if mine is not None and reaches else None
        judged = self._rules.judge(own, _tracked(answer.rows), root)
        strangers = tuple(each.int for each in judged.strangers)
        then = self._follow(now._replace(strangers=strangers), judged.verdict)
        return self._resume(then, judged.position) if judged.verdict is _I.AGREED else then

    def _resume(self, now: World, agreed: int) -> World:
        cursor = now.acknowledged if now.building == now.incarnation else 0
        after = self._rules.resume(cursor, agreed)
        return now._replace(acknowledged=after, made=after, building=now.incarnation)

    def _acknowledge(self, now: World, answer: Answer) -> Iterator[tuple[str, World]]:
        _, through = now.in_flight[0]
        rest = now._replace(in_flight=now.in_flight[1:])
        if answer.receipt is None:
            yield "gap", self._follow(rest, _I.GAP)
            return
        incarnation, position, log = answer.receipt
        is_ours = incarnation == now.building and position >= through
        if not is_ours or now.log[:position] != log:
            yield "false receipt", self._follow(rest, _I.REJECTED)
            return
        settled = rest._replace(
            receipts=rest.receipts | {now.log[through - 1]}, acknowledged=through
        )
        then = self._follow(settled, _I.ACKNOWLEDGED)
        yield f"acknowledged {through}", then
        yield f"acknowledged {through}, saved", then._replace(cursor=(now.building, through))

    def _answers_do_not_come(self, now: World) -> Iterator[tuple[str, World]]:
        """The oldest wait ends without an answer. What nobody will answer costs no misfortune."""
        number = now.asked or (now.in_flight[0][0] if now.in_flight else 0)
        if not number:
            return
        is_hopeless = all(number != one.number for one in (*now.requests, *now.answers))
        if is_hopeless or now.losses < self._bounds.losses:
            rest = now._replace(
                asked=0,
                answers=frozenset(a for a in now.answers if a.number != number),
                losses=now.losses + (not is_hopeless),
            )
            yield "no answer", self._follow(rest, _I.UNREACHABLE)

    # --- the home -----------------------------------------------------------------------------

    def _requests_arrive(self, now: World) -> Iterator[tuple[str, World]]:
        for request in now.requests:
            rest = now._replace(requests=now.requests - {request})
            kept = now._replace(repeats=now.repeats + 1)
            moments = [("", rest)]
            if request.is_batch and now.repeats < self._bounds.repeats:
                moments.append((", and will again", kept))
            for word, before in moments:
                for what, then in self._take(before, request):
                    yield f"{what}{word}", then

    def _take(self, now: World, request: Request) -> Iterator[tuple[str, World]]:
        if not request.is_batch:
            yield "home asked", _answer(now, Answer(request.number, rows=now.rows))
            return
        relation = self._rules.relate(_tracked(now.rows), _header(request))
        action = self._rules.home_table[relation]
        if action in (HomeAction.WAIT_FOR_PREDECESSOR, HomeAction.ANSWER_GAP):
            yield f"home: {action.value}", _answer(now, Answer(request.number))
            return
        row = (request.incarnation, request.through, request.log)
        known = next((r for r in now.rows if r[0] == request.incarnation), None)
        reached = known if known is not None and known[1] >= request.through else row
        others = tuple(r for r in now.rows if r[0] != request.incarnation)
        arrived = request.log[request.after :]
        is_new = [m for m in arrived if m not in now.held or not self._rules.skips_held]
        rows = (row, *others) if action is HomeAction.TAKE_IN else now.rows
        done = now._replace(rows=rows, held=(*now.held, *is_new))
        yield f"home: {action.value}", _answer(done, Answer(request.number, receipt=reached))
        if not self._rules.commits_before_it_answers:
            yield "home answers first", _answer(now, Answer(request.number, receipt=reached))

    # --- misfortunes --------------------------------------------------------------------------

    def _misfortunes(self, now: World) -> Iterator[tuple[str, World]]:
        if now.crashes < self._bounds.crashes:
            crashed = now._replace(crashes=now.crashes + 1)
            yield "origin crashes", _origin_starts(crashed)
            # What the home was answering is lost; what is on the network may still arrive.
            yield "home crashes", crashed._replace(answers=frozenset())
        yield from self._restores(now)

    def _restores(self, now: World) -> Iterator[tuple[str, World]]:
        if now.home_restores < self._bounds.restores_home:
            if now.home_backup is None:
                yield "home is backed up", now._replace(home_backup=(now.rows, now.held))
            else:
                rows, held = now.home_backup
                yield (
                    "home is restored",
                    now._replace(
                        rows=rows,
                        held=held,
                        answers=frozenset(),
                        home_restores=now.home_restores + 1,
                    ),
                )
        if now.origin_restores < self._bounds.restores_origin:
            if now.origin_backup is None:
                saved = (now.log, now.receipts, now.incarnation, now.incarnations, now.cursor)
                yield "origin is backed up", now._replace(origin_backup=saved)
            else:
                log, receipts, incarnation, incarnations, cursor = now.origin_backup
                old = now._replace(
                    log=log,
                    receipts=receipts,
                    incarnation=incarnation,
                    incarnations=incarnations,
                    cursor=cursor,
                    origin_restores=now.origin_restores + 1,
                )
                yield "origin is restored", _origin_starts(old)


def _forget_numbers(now: World) -> World:
    """Of requests whose answer nobody waits for, it does not matter which is which."""
    awaited = {now.asked, *(number for number, _ in now.in_flight)}
    if all(request.number in awaited for request in now.requests):
        return now
    same = (r if r.number in awaited else r._replace(number=0) for r in now.requests)
    # A contact that nobody waits for changes nothing at the home either.
    return now._replace(requests=frozenset(r for r in same if r.number or r.is_batch))


def _answer(now: World, answer: Answer) -> World:
    """Send an answer, if anybody still waits for it."""
    is_awaited = answer.number in {now.asked, *(n for n, _ in now.in_flight)} - {0}
    return now._replace(answers=now.answers | {answer}) if is_awaited else now


def _origin_starts(now: World) -> World:
    """The origin starts anew with what it has durably."""
    incarnation, position = now.cursor
    return now._replace(
        state=_S.CONTACTING,
        acknowledged=position,
        building=incarnation,
        made=0,
        asked=0,
        in_flight=(),
        strangers=(),
        answers=frozenset(),
    )


def _free_number(now: World) -> int:
    """Give the lowest number that no request on its way has: so that few moments differ."""
    taken = {one.number for one in (*now.requests, *now.answers)} | {now.asked}
    taken |= {number for number, _ in now.in_flight}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)
