"""What a proof proves, and that nothing in it can be changed unseen."""

import base64
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint, cosign, log_name, sign_checkpoint
from ledger.errors import CallerError
from ledger.events import (
    AudioFacts,
    Caller,
    CallReceived,
    CallStatus,
    Event,
    MessageMigrated,
    MessageStored,
    Receipt,
    encode,
)
from ledger.identity import generate_identity
from ledger.migration.receipts import sign_receipt
from ledger.signed_note import SignedNote
from ledger.storage.event_log import LogEntry
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from vmledger.message_proof import check_proof, prove_message, read_proof

ALPHA, BRAVO = generate_identity("alpha"), generate_identity("bravo")
KEYS = {"alpha": ALPHA.public_key, "bravo": BRAVO.public_key}
AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
CALL, MESSAGE = UUID(int=1), UUID(int=2)
PRESENT, FORMER = UUID(int=0), UUID(int=9)
"""Incarnations of alpha's log; the former one ended when the log went back: other positions."""


def received(call: UUID) -> CallReceived:
    return CallReceived(
        originator_id=call,
        originator_version=1,
        recorded_at=AT,
        recorded_by="alpha",
        called_extension="2001",
        context="default",
        status=CallStatus.BUSY,
        personal=Caller(number="+49301"),
    )


def stored(call: UUID, message: UUID) -> MessageStored:
    return MessageStored(
        originator_id=call,
        originator_version=2,
        recorded_at=AT,
        recorded_by="alpha",
        message_id=message,
        mailbox="2001@default",
        home="bravo",
        blob="b" * 64,
        blob_size_bytes=9,
        audio=AudioFacts(
            digest="a" * 64,
            size_bytes=8,
            container="raw",
            codec="pcmu",
            sample_rate_hz=8000,
            channels=1,
            duration_ms=1,
        ),
    )


def make_log(*later: Event) -> MemoryLogRecorder:
    """A log with the message among others."""
    recorder = MemoryLogRecorder()
    others = [received(UUID(int=100 + number)) for number in range(5)]
    events = [*others[:3], received(CALL), stored(CALL, MESSAGE), *later, *others[3:]]
    recorder.insert_events([to_stored_event(event) for event in events])
    return recorder


def make_proof(
    *later: Event, witnessed: bool = False, signer=ALPHA, message: UUID = MESSAGE
) -> bytes:
    recorder = make_log(*later)
    head = recorder.head()
    said = Checkpoint(log_name("alpha", head.incarnation), head.position, head.root)
    note = sign_checkpoint(said, signer)
    if witnessed:
        note = SignedNote(note.text, (*note.signatures, cosign(note, "bravo", BRAVO, AT)))
    entries = recorder.read_streams([CALL])[CALL]
    proof = prove_message(message, "alpha", entries, note, recorder.read_hashes)
    return msgspec.json.encode(proof)


def problems(data: bytes, keys: dict[str, bytes] = KEYS) -> str:
    return "; ".join(check_proof(read_proof(data), keys).problems)


def test_proof_shows_the_story_and_the_recording():
    report = check_proof(read_proof(make_proof()), KEYS)
    assert report.holds
    assert [(fact.position, fact.event) for fact in report.facts] == [
        (4, "call-received"),
        (5, "message-stored"),
    ]
    assert (report.audio_digest, report.position) == ("a" * 64, 7)
    assert report.witnesses == {}


def test_witness_of_the_checkpoint_is_named_with_its_time():
    report = check_proof(read_proof(make_proof(witnessed=True)), KEYS)
    assert report.holds
    assert report.witnesses == {"bravo": AT}


def migrated(
    position: int, *, origin: str = "alpha", incarnation: UUID = PRESENT
) -> MessageMigrated:
    """That bravo has the message, by a receipt for alpha's log up to a position."""
    receipt = Receipt(
        origin=origin,
        origin_incarnation=incarnation,
        origin_position=position,
        origin_root="c" * 64,
        home="bravo",
        home_incarnation=UUID(int=8),
        home_position=3,
        home_root="d" * 64,
        safe_position=0,
        issued_at=AT,
        signature="",
    )
    return MessageMigrated(
        originator_id=CALL,
        originator_version=3,
        recorded_at=AT,
        recorded_by="alpha",
        message_id=MESSAGE,
        home="bravo",
        home_position=3,
        receipt=sign_receipt(receipt, BRAVO),
    )


@pytest.mark.parametrize("receipt", [migrated(5), migrated(4, incarnation=FORMER)])
def test_receipt_that_covers_the_message_is_counted(receipt):
    report = check_proof(read_proof(make_proof(receipt)), KEYS)
    assert (report.receipts, report.problems) == (1, ())


@pytest.mark.parametrize("receipt", [migrated(4), migrated(5, origin="charlie")])
def test_receipt_for_something_else_does_not_say_that_the_home_has_the_message(receipt):
    report = check_proof(read_proof(make_proof(receipt)), KEYS)
    assert report.receipts == 0
    assert "position 6: its receipt does not cover the message" in report.problems


def test_without_the_servers_key_a_proof_only_vouches_for_itself():
    assert "was not given" in problems(make_proof(), {"bravo": BRAVO.public_key})


def test_checkpoint_that_another_server_signed_proves_nothing():
    assert "not signed with the key" in problems(make_proof(signer=BRAVO))


def test_proof_of_another_message_is_none_of_this_one():
    assert "about another message" in problems(make_proof(message=UUID(int=3)))


@settings(max_examples=300)
@given(st.data())
def test_no_byte_of_a_proof_can_be_changed_unseen(data):
    """Whatever changes, it is refused, or it does not hold, or it says the very same."""
    proof = make_proof(witnessed=True)
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = bytearray(proof)
    changed[place] ^= data.draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
    try:
        report = check_proof(read_proof(bytes(changed)), KEYS)
    except CallerError:
        return
    if report.holds:
        before = check_proof(read_proof(proof), KEYS)
        same = ("facts", "audio_digest", "root", "position", "server", "message_id")
        assert [getattr(report, n) for n in same] == [getattr(before, n) for n in same]


def test_event_that_was_never_in_the_log_cannot_be_proved():
    proof = msgspec.json.decode(make_proof())
    proof["events"][1]["event"] = proof["events"][1]["event"].replace("a" * 64, "c" * 64)
    assert "position 5 of the log is not this event" in problems(msgspec.json.encode(proof))


def test_index_that_another_event_has_cannot_be_claimed():
    proof = msgspec.json.decode(make_proof())
    proof["events"][0]["proof"] = proof["events"][0]["proof"].replace("index 3", "index 2")
    assert "position 3 of the log is not this event" in problems(msgspec.json.encode(proof))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: b"no json", "not the proof of a message"),
        (lambda p: b"[" * 100_000, "not the proof of a message"),
        (lambda p: p.replace(b'@v1"', b'@v9"', 1), "this program checks"),
        (lambda p: p.replace(b"tlog-proof@v1", b"tlog-proof@v2"), "has no c2sp.org/tlog-proof@v1"),
        (lambda p: p.replace(b"index 3", b"index 03"), "has no c2sp.org/tlog-proof@v1"),
        (lambda p: p.replace(b"vmledger/alpha/", b"example.com/x/"), "no log of a server"),
    ],
)
def test_file_that_is_no_proof_is_refused_with_the_reason(change, why):
    with pytest.raises(CallerError, match=why):
        check_proof(read_proof(change(make_proof())), KEYS)


def test_proof_inside_is_the_published_format_of_public_logs():
    """Checked from the specification's text alone, with nothing of the program."""
    proof = msgspec.json.decode(make_proof())
    event, text = proof["events"][1]["event"], proof["events"][1]["proof"]
    head, _, note = text.partition("\n\n")
    first, index, *path = head.split("\n")
    assert (first, index) == ("c2sp.org/tlog-proof@v1", "index 4")
    found = sha256(b"\0" + event.encode()).digest()
    node, last = 4, 6
    for sibling in map(base64.b64decode, path):
        is_right = node % 2 == 1 or node == last
        found = sha256(b"\1" + (sibling + found if is_right else found + sibling)).digest()
        while is_right and node % 2 == 0 and node:
            node, last = node // 2, last // 2
        node, last = node // 2, last // 2
    assert base64.b64encode(found).decode() == note.split("\n")[2]


def test_entry_is_proved_as_it_stands_in_the_log():
    entry: LogEntry = make_log().read(5, 1)[0]
    assert entry.plain == encode(stored(CALL, MESSAGE))
