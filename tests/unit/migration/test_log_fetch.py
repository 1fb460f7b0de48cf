"""Copying a log: only what its server signed is ever committed, whoever gives it."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from ledger.checkpoint import Checkpoint, cosign, log_name, sign_checkpoint, with_cosignatures
from ledger.errors import PeerError
from ledger.events import Caller, CallReceived, CallStatus, ServerStarted, encode
from ledger.identity import ServerIdentity, generate_identity
from ledger.ids import server_stream_id
from ledger.migration import log_fetch, log_reading
from ledger.migration.log_fetch import LogFetch
from ledger.migration.log_reading import own_word, read_blobs, read_page, read_state
from ledger.migration.log_source import LogTarget, OtherHistoryError
from ledger.migration.wire import (
    CopiedEvent,
    CopyState,
    CosignedRow,
    KeptKey,
    LogPage,
    LogPageRequest,
    OriginRow,
)
from ledger.sealing import WrappedKey
from ledger.storage.event_log import Append, LogHead, PeerTracking, tracking_name
from ledger.storage.log_copy import CopyShelf, LogCopy
from ledger.storage.mapper import to_stored_event
from ledger.storage.merkle import Frontier, leaf_hash

AT = datetime(2026, 3, 1, tzinfo=UTC)
ALPHA = generate_identity("alpha")


async def in_place(work):
    return work()


class Origin:
    """Alpha's log, and a `LogSource` over it that may lie in a page."""

    name = "alpha"

    def __init__(self, folder, identity: ServerIdentity = ALPHA) -> None:
        self.log = LogCopy(folder, is_new=True)
        self.recorder = self.log.recorder
        self.vouch = own_word(identity)
        self.spoil: Callable[[LogPage], LogPage] = lambda page: page
        self.pages = 0

    def grow(self, events: int, version: str = "1") -> None:
        head = self.recorder.head()
        stream = server_stream_id("alpha", head.incarnation)
        first = len(self.recorder.read_streams([stream]).get(stream, ())) + 1
        started = [
            ServerStarted(
                originator_id=stream,
                originator_version=first + number,
                recorded_at=AT,
                recorded_by="alpha",
                incarnation=head.incarnation,
                software_version=version,
            )
            for number in range(events)
        ]
        self.recorder.commit([Append([to_stored_event(event) for event in started])])

    def state(self) -> CopyState:
        return read_state(self.recorder, "", self.vouch)

    async def log_page(self, request: LogPageRequest) -> LogPage:
        self.pages += 1
        page = read_page(
            self.recorder, request, self.vouch, origins=["bravo"], cosigned=self.log.cosigned
        )
        return self.spoil(page)

    async def blobs(self, of, digests):
        return read_blobs(digests, [(self.recorder, self.log.blobs)])


@pytest.fixture
def origin(tmp_path):
    made = Origin(tmp_path / "origin")
    made.grow(10)
    yield made
    made.log.close()


@pytest.fixture
def copy(tmp_path):
    made = LogCopy(tmp_path / "copy", is_new=True)
    yield made
    made.close()


def fetch(origin: Origin, copy: LogCopy, state: CopyState | None = None, until=None):
    target = LogTarget(
        of="alpha",
        public_key=ALPHA.public_key,
        recorder=copy.recorder,
        blobs=copy.blobs,
        cosigned=copy.cosigned,
        checkpoint=copy.checkpoint,
    )
    run = LogFetch(origin, state or origin.state(), target, offload=in_place, until=until)
    return asyncio.run(run.run())


def test_copy_is_the_log_itself_with_the_servers_word_beside_it(origin, copy):
    assert fetch(origin, copy).events == 10
    assert copy.recorder.head() == origin.recorder.head()
    assert copy.recorder.read(1, 10) == origin.recorder.read(1, 10)
    assert copy.checkpoint.read(copy.recorder.head()) is not None
    origin.grow(5)
    assert fetch(origin, copy).events == 5
    assert copy.recorder.head() == origin.recorder.head()
    assert fetch(origin, copy).events == 0


CALLS = [UUID(int=n) for n in range(1, 4)]


def call_begins(call_id: UUID, *keys: WrappedKey) -> Append:
    received = CallReceived(
        originator_id=call_id,
        originator_version=1,
        recorded_at=AT,
        recorded_by="alpha",
        called_extension="1001",
        context="default",
        status=CallStatus.BUSY,
        personal=Caller(),
    )
    return Append([to_stored_event(received)], keys=keys)


def test_keys_of_calls_are_copied_as_the_log_keeps_them(origin, copy):
    kept = WrappedKey(CALLS[0], b"only alpha opens this")
    destroyed = WrappedKey(CALLS[1], None)
    origin.recorder.commit(
        [call_begins(CALLS[0], kept), call_begins(CALLS[1], destroyed), call_begins(CALLS[2])]
    )
    fetch(origin, copy)
    assert copy.recorder.read_keys(CALLS) == {CALLS[0]: kept, CALLS[1]: destroyed}


def test_key_of_a_call_that_is_not_in_the_page_is_not_kept(origin, copy):
    foreign = (KeptKey(CALLS[0], b"of a call that begins elsewhere"),)
    origin.spoil = lambda page: msgspec.structs.replace(page, keys=foreign)
    fetch(origin, copy)
    assert copy.recorder.read_keys(CALLS) == {}


def changed_event(page: LogPage) -> LogPage:
    first = page.events[0]
    plain = bytes(first.plain).replace(b'"1"', b'"9"')
    assert plain != bytes(first.plain)
    return msgspec.structs.replace(
        page, events=(CopiedEvent(msgspec.Raw(plain), None, None), *page.events[1:])
    )


TRACKED = OriginRow(origin="bravo", incarnation=UUID(int=5), position=7, root="01" * 32)
LIES = {
    "an event was changed": changed_event,
    "two events changed places": lambda page: msgspec.structs.replace(
        page, events=(page.events[1], page.events[0], *page.events[2:])
    ),
    "the root is another one": lambda page: msgspec.structs.replace(page, root="0" * 64),
    "the checkpoint is another server's": lambda page: msgspec.structs.replace(
        page, checkpoint=page.checkpoint.replace("alpha", "bravo")
    ),
    "it took in an event from itself": lambda page: msgspec.structs.replace(
        page, events=(CopiedEvent(page.events[0].plain, "alpha", 1), *page.events[1:])
    ),
    "one tracking row stands there twice": lambda page: msgspec.structs.replace(
        page, origins=(TRACKED, TRACKED)
    ),
    "nothing is the beginning of another history": lambda page: msgspec.structs.replace(
        page, is_other_history=True
    ),
    "it goes nowhere": lambda page: msgspec.structs.replace(
        page,
        events=(),
        through_position=0,
        root=hashlib.sha256().hexdigest(),
        proof=(),
        checkpoint=None,
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_page_that_was_not_signed_so_is_never_committed(origin, copy, lie):
    origin.spoil = lie
    with pytest.raises(PeerError):
        fetch(origin, copy)
    assert copy.recorder.head().position == 0
    origin.spoil = lambda page: page
    assert fetch(origin, copy).events == 10


def test_what_was_read_before_a_page_that_lies_is_kept(origin, copy, monkeypatch):
    monkeypatch.setattr(log_reading, "MAX_COPIED", 3)

    def spoil(page: LogPage) -> LogPage:
        is_third = page.after_position == 6
        return msgspec.structs.replace(page, root="00" * 32) if is_third else page

    origin.spoil = spoil
    with pytest.raises(PeerError, match="events up to position 9 are not its tree"):
        fetch(origin, copy)
    assert copy.recorder.read(1, 10) == origin.recorder.read(1, 6)
    assert copy.checkpoint.read(copy.recorder.head()) is not None
    origin.spoil = lambda page: page
    assert fetch(origin, copy).events == 4
    assert copy.recorder.head() == origin.recorder.head()


@pytest.mark.parametrize(
    ("together", "commits"),
    [(1, [1] * 10), (2, [1, 1, 2, 2, 2, 1, 1]), (99, [1, 1, 2, 3, 1, 1, 1])],
)
def test_pages_are_committed_together_the_first_and_the_last_ones_sooner(
    origin, copy, monkeypatch, together, commits
):
    monkeypatch.setattr(log_reading, "MAX_COPIED", 1)
    monkeypatch.setattr(log_fetch, "_COMMIT_EVENTS", together)
    commit, done = copy.recorder.commit_whole, []

    def note(appends):
        commit(appends)
        done.append(sum(len(append.events) for append in appends))
        assert copy.checkpoint.read(copy.recorder.head()) is not None

    copy.recorder.commit_whole = note
    assert fetch(origin, copy).events == 10
    assert done == commits
    assert copy.recorder.head() == origin.recorder.head()


def test_beginning_of_another_history_is_refused_in_the_middle_of_the_log(origin, copy, tmp_path):
    """A source that shows a signed end, and other events on the way there."""
    other = Origin(tmp_path / "other")
    other.grow(10, version="2")
    liar = Origin(tmp_path / "liar")
    liar.log_page = other.log_page
    with pytest.raises(PeerError, match="not the beginning"):
        fetch(liar, copy, origin.state())
    assert copy.recorder.head().position == 0
    other.log.close()
    liar.log.close()


def signed_page(*plains: bytes) -> tuple[CopyState, LogPage]:
    """A log of these events as alpha itself would sign and show it."""
    root = Frontier().append(map(leaf_hash, plains)).root()
    head = LogHead(UUID(int=9), len(plains), root)
    word = own_word(ALPHA)(head)
    state = CopyState(
        name="", incarnation=head.incarnation, position=head.position, root=root.hex(),
        checkpoint=word,
    )  # fmt: skip
    events = tuple(CopiedEvent(msgspec.Raw(plain), None, None) for plain in plains)
    page = LogPage(
        after_position=0, through_position=len(plains), root=root.hex(), events=events,
        checkpoint=word,
    )  # fmt: skip
    return state, page


def started(recorded_by: str) -> bytes:
    return encode(
        ServerStarted(
            originator_id=server_stream_id(recorded_by, UUID(int=9)),
            originator_version=1,
            recorded_at=AT,
            recorded_by=recorded_by,
            incarnation=UUID(int=9),
            software_version="1",
        )
    )


SIGNED_LIES = {
    "what another server recorded came from nowhere": ([started("bravo")], "came from nowhere"),
    "an event is none": ([b'{"event":"server-started"}'], "no valid header"),
    "an event stands there twice": ([started("alpha")] * 2, "there already"),
}


@pytest.mark.parametrize(("plains", "what"), SIGNED_LIES.values(), ids=SIGNED_LIES.keys())
def test_log_that_no_server_can_have_is_its_servers_fault_and_not_committed(
    origin, copy, plains, what
):
    state, page = signed_page(*plains)
    origin.spoil = lambda _page: page
    with pytest.raises(PeerError, match=what):
        fetch(origin, copy, state)
    assert copy.recorder.head().position == 0
    origin.spoil = lambda page: page
    assert fetch(origin, copy).events == 10


def test_what_is_wrong_behind_the_last_time_wanted_does_not_matter(origin, copy):
    early = started("alpha")
    late = early.replace(b"2026-03-01T", b"2026-03-02T").replace(
        b'"originator_version":1', b'"originator_version":2'
    )
    state, page = signed_page(early, late, b'{"event":"server-started"}')
    origin.spoil = lambda _page: page
    assert fetch(origin, copy, state, until=AT).events == 1


def cosigned(server: str, size: int, signer: ServerIdentity, witness: ServerIdentity):
    """What a witness keeps when it has signed a checkpoint of this server's log."""
    checkpoint = Checkpoint(log_name(server, UUID(int=9)), size, b"r" * 32)
    note = sign_checkpoint(checkpoint, signer)
    note = with_cosignatures(note, [cosign(note, witness.server_id, witness, AT)])
    return CosignedRow(
        log=checkpoint.log, witness=witness.server_id, size=size, note=note.to_text()
    )


def test_cosigned_checkpoint_is_kept_only_when_the_logs_server_had_a_part_in_it(origin, copy):
    mallory = generate_identity("alpha")
    bravo = generate_identity("bravo")
    right = [cosigned("alpha", 4, ALPHA, bravo), cosigned("bravo", 3, bravo, ALPHA)]
    wrong = [
        cosigned("alpha", 9, mallory, bravo),
        cosigned("bravo", 9, bravo, mallory),
        cosigned("charlie", 9, bravo, bravo),
        msgspec.structs.replace(right[0], size=9),
        msgspec.structs.replace(right[1], note="no checkpoint"),
    ]
    origin.spoil = lambda page: msgspec.structs.replace(page, cosigned=(*wrong, *right))
    fetch(origin, copy)
    kept = {(row.log, row.witness, row.size) for row in copy.cosigned.all()}
    assert kept == {(row.log, row.witness, row.size) for row in right}


def test_log_that_somebody_else_signed_is_not_even_begun(copy, tmp_path):
    mallory = Origin(tmp_path / "mallory", generate_identity("alpha"))
    mallory.grow(3)
    with pytest.raises(PeerError, match="no checkpoint that alpha signed"):
        fetch(mallory, copy)
    assert mallory.pages == 0
    mallory.log.close()


def test_shorter_or_other_log_never_touches_the_copy(origin, copy, tmp_path):
    fetch(origin, copy)
    before = copy.recorder.head()
    for version, events in (("1", 4), ("2", 10), ("2", 20)):
        other = Origin(tmp_path / f"other-{version}-{events}")
        other.recorder.start_incarnation(before.incarnation)
        other.grow(events, version)
        with pytest.raises(OtherHistoryError):
            fetch(other, copy)
        other.log.close()
    assert copy.recorder.head() == before
    assert copy.checkpoint.read(before) is not None


def test_new_incarnation_that_goes_on_from_the_copy_continues_it(origin, copy):
    fetch(origin, copy)
    origin.recorder.start_incarnation(server_stream_id("alpha", copy.recorder.head().incarnation))
    fetch(origin, copy)
    head = copy.recorder.head()
    assert head == origin.recorder.head()
    assert copy.checkpoint.read(head) is not None
    origin.grow(2)
    fetch(origin, copy)
    assert copy.recorder.head() == origin.recorder.head()


def test_tracking_comes_only_with_all_events_that_it_speaks_of(origin, copy):
    incarnation = origin.recorder.head().incarnation
    tracking = PeerTracking(tracking_name("bravo", incarnation), 7, 0, b"\x01" * 32)
    origin.recorder.commit([Append([], tracking=tracking)])
    fetch(origin, copy, until=6)
    assert copy.recorder.head().position == 6
    assert copy.recorder.tracked("bravo") == []
    fetch(origin, copy)
    assert copy.recorder.tracked("bravo") == origin.recorder.tracked("bravo") != []


def test_crash_between_checkpoint_and_commit_leaves_one_that_fits(origin, copy):
    fetch(origin, copy)
    head = copy.recorder.head()
    origin.grow(1)
    copy.checkpoint.stage(origin.state().checkpoint, head)  # and then the power went
    assert copy.checkpoint.read(head) is not None
    fetch(origin, copy)
    assert copy.checkpoint.read(copy.recorder.head()) is not None


def test_copy_that_is_set_aside_is_never_touched_again(tmp_path):
    shelf = CopyShelf(tmp_path)
    first = shelf.current("alpha").recorder.head()
    place = shelf.set_aside("alpha", AT)
    second = shelf.current("alpha").recorder.head()
    assert first.incarnation != second.incarnation
    assert [copy.name for copy in shelf.copies("alpha")] == [place.name, "current"]
    assert shelf.copies("bravo") == []
    shelf.close()


def test_copy_whose_last_checkpoint_was_not_settled_keeps_it_while_the_next_is_staged(origin, copy):
    fetch(origin, copy)
    origin.grow(1)
    copy.checkpoint.settle = lambda _note: None  # its process dies before that
    fetch(origin, copy)
    del copy.checkpoint.settle
    head = copy.recorder.head()
    origin.grow(1)
    copy.checkpoint.stage(origin.state().checkpoint, head)  # and then the power went
    assert copy.checkpoint.read(head) is not None


def test_crash_while_the_copy_changes_its_incarnation_leaves_a_checkpoint_that_fits(origin, copy):
    fetch(origin, copy)
    origin.recorder.start_incarnation(server_stream_id("alpha", copy.recorder.head().incarnation))
    origin.grow(2)

    class PowerCutError(Exception):
        pass

    def commit(_appends):
        raise PowerCutError

    copy.recorder.commit_whole = commit
    with pytest.raises(PowerCutError):
        fetch(origin, copy)
    assert copy.checkpoint.read(copy.recorder.head()) is not None


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.next"])
def test_copy_is_of_use_whichever_bit_flips_in_one_of_its_two_checkpoint_files(origin, copy, name):
    fetch(origin, copy)
    file, head = copy.directory / name, copy.recorder.head()
    sound = file.read_bytes()
    for place in range(8 * len(sound)):
        rotten = bytearray(sound)
        rotten[place // 8] ^= 1 << place % 8
        file.write_bytes(rotten)
        assert copy.checkpoint.read(head) == origin.state().checkpoint


def test_checkpoint_that_rotted_is_signed_anew_though_nothing_else_is_new(origin, copy):
    fetch(origin, copy)
    for name in ("checkpoint", "checkpoint.next"):
        (copy.directory / name).write_text("rotten")
    assert copy.checkpoint.read(copy.recorder.head()) is None
    fetch(origin, copy)
    assert copy.checkpoint.read(copy.recorder.head()) is not None
