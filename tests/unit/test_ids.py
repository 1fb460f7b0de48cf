"""Identifiers."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CallerError
from ledger.ids import (
    MailboxAddress,
    mailbox_stream_id,
    message_id_of,
    message_stream_id,
    new_id_factory,
    server_stream_id,
    uuid7,
)

ten_bytes = st.binary(min_size=10, max_size=10)
milliseconds = st.integers(0, (1 << 48) - 1)


def test_uuid7_is_the_example_of_the_standard():
    """RFC 9562 appendix A.6: Tuesday 22 February 2022, 14:22:22 GMT-05:00."""
    random_bits = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert uuid7(0x017F22E279B0, random_bits.to_bytes(10, "big")) == UUID(
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F"
    )


@given(milliseconds, ten_bytes)
def test_uuid7_has_version_variant_and_time_in_their_places(time_ms, random_10_bytes):
    made = uuid7(time_ms, random_10_bytes)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == time_ms


@given(milliseconds, ten_bytes, ten_bytes)
def test_uuid7_of_a_later_millisecond_sorts_later(time_ms, first, second):
    assert uuid7(time_ms, first) < uuid7(time_ms + 1, second) or time_ms == (1 << 48) - 1


@given(milliseconds, ten_bytes)
def test_each_of_the_74_random_bits_counts(time_ms, random_10_bytes):
    bits = int.from_bytes(random_10_bytes, "big")
    flipped = {uuid7(time_ms, (bits ^ 1 << bit).to_bytes(10, "big")) for bit in range(74)}
    assert len(flipped - {uuid7(time_ms, random_10_bytes)}) == 74


def test_id_factory_takes_time_and_randomness_from_its_arguments():
    moments = iter([datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=n) for n in (5, 6)])
    new_id = new_id_factory(lambda: next(moments), bytes)
    assert [new_id(), new_id()] == [uuid7(5, bytes(10)), uuid7(6, bytes(10))]


def test_stream_ids_never_change():
    """Stored events depend on them: whoever makes this fail has orphaned every mailbox."""
    mailbox = MailboxAddress("2001")
    stream = UUID("e2572def-59b7-55a5-9465-67646f74f841")
    assert mailbox_stream_id(mailbox, "bravo", UUID(int=1)) == stream
    message = UUID("8f7c8ff4-006c-5d9b-a72d-c8d99ea481cc")
    assert message_stream_id(UUID(int=7), "bravo") == message
    assert server_stream_id("alpha", UUID(int=1)) == UUID("76eead00-7c4a-5508-b2da-84b13ac550ff")


def test_message_id_never_changes():
    """A restored server must find the id under which the message may be at its home."""
    named = message_id_of("alpha", UUID(int=3), "ab" * 32)
    assert named == UUID("a1233a04-a9ed-5592-8165-a2ca1c657c0e")


def test_each_server_call_and_sound_gives_another_message():
    facts = [("alpha", UUID(int=3), "a"), ("bravo", UUID(int=3), "a")]
    facts += [("alpha", UUID(int=4), "a"), ("alpha", UUID(int=3), "b")]
    assert len({message_id_of(*each) for each in facts}) == 4


def test_same_extension_in_another_context_is_another_mailbox():
    one, other = MailboxAddress("2001"), MailboxAddress("2001", "tenant")
    home, incarnation = "bravo", UUID(int=1)
    assert mailbox_stream_id(one, home, incarnation) != mailbox_stream_id(other, home, incarnation)


def test_each_home_and_each_incarnation_of_it_has_its_own_stream_of_a_mailbox():
    mailbox = MailboxAddress("2001")
    homes = [("bravo", UUID(int=1)), ("bravo", UUID(int=2)), ("charlie", UUID(int=1))]
    assert len({mailbox_stream_id(mailbox, *home) for home in homes}) == 3


def test_each_incarnation_has_its_own_server_stream():
    assert server_stream_id("alpha", UUID(int=1)) != server_stream_id("alpha", UUID(int=2))


@pytest.mark.parametrize("text", ["2001", "2001@default"])
def test_extension_alone_is_in_the_default_context(text):
    assert MailboxAddress.parse(text) == MailboxAddress("2001", "default")


@pytest.mark.parametrize("text", ["", "@", "@default", "2001@", "a@b@c", " 2001", "2001 "])
def test_what_is_no_mailbox_is_refused_by_name(text):
    with pytest.raises(CallerError) as refusal:
        MailboxAddress.parse(text)
    assert repr(text) in refusal.value.message


@given(st.from_regex(r"[0-9*#a-z]+", fullmatch=True), st.from_regex(r"[a-z]+", fullmatch=True))
def test_address_reads_back_what_it_prints(extension, context):
    address = MailboxAddress(extension, context)
    assert MailboxAddress.parse(str(address)) == address
