"""What is written stays readable, byte for byte, and nothing unknown is lost or guessed at."""

import re
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import events
from ledger.errors import CorruptionError
from ledger.events import EVENT_CLASSES, Event, OpaqueEvent, Receipt, receipt_signing_bytes
from tests.support.strategies import any_event, of_struct

GOLDEN_FILES = sorted((Path(__file__).parents[1] / "golden" / "events").glob("*.json"))
GOLDEN_EVENTS = [path.read_bytes().removesuffix(b"\n") for path in GOLDEN_FILES]
NAME = re.compile(r"(?P<topic>[a-z-]+)\.v(?P<version>\d+)\.json")
golden = pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: path.stem)


def topic_and_version(path: Path) -> tuple[str, int]:
    match = NAME.fullmatch(path.name)
    assert match is not None, f"{path} is not named <topic>.v<version>.json"
    return match["topic"], int(match["version"])


def read(path: Path) -> bytes:
    return path.read_bytes().removesuffix(b"\n")


def test_every_version_of_every_topic_has_a_golden_file():
    written = {
        (topic, version)
        for topic in EVENT_CLASSES
        for version in range(1, events.newest_version(topic) + 1)
    }
    assert {topic_and_version(path) for path in GOLDEN_FILES} == written


@golden
def test_golden_event_is_read_as_its_own_kind(path):
    topic, _ = topic_and_version(path)
    event = events.decode(read(path))
    assert type(event) is EVENT_CLASSES[topic]
    assert event.topic == topic


@golden
def test_golden_event_of_the_newest_version_is_written_as_the_same_bytes(path):
    topic, version = topic_and_version(path)
    if version == events.newest_version(topic):
        assert events.encode(events.decode(read(path))) == read(path)
    else:
        assert events.decode(read(path)).v == events.newest_version(topic)


@golden
def test_unknown_topic_is_kept_byte_for_byte(path):
    plain = read(path).replace(b'"event":"', b'"event":"not-', 1)
    event = events.decode(plain)
    assert isinstance(event, OpaqueEvent)
    assert event.topic == "not-" + topic_and_version(path)[0]
    assert events.encode(event) == plain


@golden
def test_newer_version_is_kept_byte_for_byte(path):
    topic, _ = topic_and_version(path)
    plain = re.sub(rb'"v":\d+', b'"v":99,"surprise":[1, 2]', read(path), count=1)
    event = events.decode(plain)
    assert isinstance(event, OpaqueEvent)
    assert (event.topic, event.v) == (topic, 99)
    assert events.encode(event) == plain


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "0" * 64 + "\n", "A" * 64])
def test_digest_is_64_lower_case_hexadecimal_digits_and_nothing_else(digest):
    assert msgspec.convert("0" * 64, events.Digest) == "0" * 64
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(digest, events.Digest)


def test_opaque_event_says_which_stream_it_belongs_to():
    known = events.decode(GOLDEN_EVENTS[0])
    opaque = events.decode(GOLDEN_EVENTS[0].replace(b'"v":1', b'"v":2', 1))
    header = ("originator_id", "originator_version", "recorded_at", "recorded_by")
    assert [getattr(opaque, name) for name in header] == [getattr(known, name) for name in header]


@golden
def test_known_event_with_a_field_too_many_is_corrupt(path):
    with pytest.raises(CorruptionError, match=r"position 7.*surprise|surprise.*position 7"):
        events.decode(read(path).replace(b"{", b'{"surprise":1,', 1), "position 7")


@golden
def test_known_event_without_a_field_that_it_must_have_is_corrupt(path):
    fields = msgspec.json.decode(read(path))
    declared = msgspec.inspect.type_info(EVENT_CLASSES[fields["event"]]).fields
    required = [field.name for field in declared if field.required]
    for name in required:
        rest = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(CorruptionError, match=name):
            events.decode(msgspec.json.encode(rest))
    assert required


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recorded_at", "2026-03-14T09:26:53"),
        ("originator_version", 0),
        ("originator_id", "not-a-uuid"),
        ("v", 0),
        ("v", "1"),
    ],
)
def test_event_whose_header_is_invalid_is_corrupt(field, value):
    fields = msgspec.json.decode(GOLDEN_EVENTS[0]) | {field: value}
    with pytest.raises(CorruptionError, match=r"not valid|no valid header"):
        events.decode(msgspec.json.encode(fields))


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"event":"unheard-of",',
        b'{"event":"unheard-of","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["nothing", "null", "list", "empty", "not-utf-8", "cut", "deep"],
)
def test_bytes_that_are_no_event_are_corrupt(plain):
    with pytest.raises(CorruptionError):
        events.decode(plain)


@given(st.sampled_from(GOLDEN_EVENTS), st.data())
def test_damaged_event_is_read_or_reported_but_never_crashes_the_reader(plain, data):
    place = data.draw(st.integers(0, len(plain) - 1))
    damage = data.draw(st.binary(max_size=4))
    try:
        event = events.decode(plain[:place] + damage + plain[place + len(damage) :])
    except CorruptionError:
        return
    assert isinstance(event, Event | OpaqueEvent)


@given(any_event())
def test_every_event_comes_back_equal_from_its_bytes(event):
    plain = events.encode(event)
    assert events.decode(plain) == event
    assert events.encode(events.decode(plain)) == plain


def test_topics_are_lower_case_words_that_fit_a_file_name():
    assert [topic for topic in EVENT_CLASSES if not re.fullmatch(r"[a-z]+(-[a-z]+)*", topic)] == []


class AbandonedV3(Event, frozen=True, kw_only=True, tag="call-abandoned"):
    """A later form of the event: ``reason`` was renamed in version 2, ``seconds`` came in 3."""

    v: Literal[3] = 3
    why: str
    seconds: int


@pytest.fixture
def third_version(monkeypatch):
    """The program as it will be when one event is in its third version."""
    monkeypatch.setitem(events.EVENT_CLASSES, "call-abandoned", AbandonedV3)
    monkeypatch.setitem(
        events.UPCASTS,
        ("call-abandoned", 1),
        lambda old: {k: v for k, v in old.items() if k != "reason"} | {"why": old["reason"]},
    )
    monkeypatch.setitem(events.UPCASTS, ("call-abandoned", 2), lambda old: old | {"seconds": 0})
    monkeypatch.setattr(events, "DomainEvent", AbandonedV3)
    monkeypatch.setattr(events, "_DECODER", msgspec.json.Decoder(AbandonedV3))


ABANDONED = next(p for p in GOLDEN_EVENTS if b'"event":"call-abandoned"' in p)


@pytest.mark.usefixtures("third_version")
def test_old_event_is_raised_through_every_version_between():
    event = events.decode(ABANDONED)
    assert isinstance(event, AbandonedV3)
    assert (event.v, event.why, event.seconds) == (3, "hung-up", 0)


@pytest.mark.usefixtures("third_version")
def test_event_of_the_version_between_takes_only_the_rest_of_the_way():
    plain = ABANDONED.replace(b'"reason"', b'"why"').replace(b'"v":1', b'"v":2')
    assert events.decode(plain) == events.decode(ABANDONED)


@pytest.mark.usefixtures("third_version")
def test_old_event_that_lacks_what_its_version_must_have_is_corrupt():
    with pytest.raises(CorruptionError, match=r"call-abandoned v1 is not valid.*position 7"):
        events.decode(ABANDONED.replace(b'"reason"', b'"rumour"'), "position 7")


@given(of_struct(Receipt), st.text())
def test_a_receipt_is_signed_without_its_signature(receipt, signature):
    signed = msgspec.structs.replace(receipt, signature=signature)
    assert receipt_signing_bytes(signed) == receipt_signing_bytes(receipt)


@given(of_struct(Receipt), st.integers(0, 1 << 40))
def test_signed_bytes_change_with_what_is_promised(receipt, position):
    other = msgspec.structs.replace(receipt, origin_position=position)
    same_promise = position == receipt.origin_position
    assert (receipt_signing_bytes(other) == receipt_signing_bytes(receipt)) is same_promise


def test_receipt_signing_bytes_never_change():
    migrated = next(p for p in GOLDEN_EVENTS if b'"event":"message-migrated"' in p)
    receipt = events.decode(migrated).receipt
    signed = receipt_signing_bytes(receipt)
    assert signed.startswith(b'vmledger receipt v1\n{"origin":"alpha","origin_incarnation":')
    assert signed.endswith(b',"signature":""}')
    assert str(UUID(int=receipt.origin_incarnation.int)).encode() in signed
