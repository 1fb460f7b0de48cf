"""The profiles are the same whatever came first, and what the write side would say."""

from __future__ import annotations

import hashlib
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger import mailbox as write_side
from ledger.events import (
    AudioFacts,
    DomainEvent,
    GreetingRecorded,
    GreetingRemoved,
    MailboxOpened,
    MailboxRehomed,
    PinChanged,
    decode,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.mailbox import GreetingKind
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from projections.profiles import PROFILES, MailboxProfile, Profiles
from tests.contract.projections.test_folding import OVER_ONE_STORE
from tests.support.histories import START
from tests.support.running import Bench

NAMES = ("2001@default", "2002@default")
SERVERS = ("alpha", "bravo", "charlie")
TELL = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(SERVERS),
    st.integers(1, 3),
    st.sampled_from(["open", "greet", "greet busy", "remove", "pin", "no pin", "rehome"]),
    st.integers(0, 50),
)


def digest_of(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def event_of(version: int, mailbox: str, server: str, epoch: int, what: str, at_s: int) -> Any:
    common: dict[str, Any] = {
        "originator_id": mailbox_stream_id(MailboxAddress.parse(mailbox), server, UUID(int=1)),
        "originator_version": version,
        "recorded_at": START + timedelta(seconds=at_s),
        "recorded_by": server,
        "mailbox": mailbox,
        "epoch": epoch,
    }
    blob = digest_of(version, mailbox, server)
    match what:
        case "open":
            return MailboxOpened(**common)
        case "remove":
            return GreetingRemoved(**common, kind="unavailable", by="ann")
        case "pin" | "no pin":
            return PinChanged(**common, verifier=blob if what == "pin" else None, by="ann")
        case "rehome":
            to_home = SERVERS[(SERVERS.index(server) + 1) % 3]
            return MailboxRehomed(
                **common | {"epoch": epoch + 1}, from_home=server, to_home=to_home, by="ann"
            )
    audio = AudioFacts(
        digest=blob,
        size_bytes=1,
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=1000,
    )
    kind = "busy" if what == "greet busy" else "unavailable"
    return GreetingRecorded(**common, kind=kind, blob=blob, blob_size_bytes=9, audio=audio)


def streams_of(told: list[tuple[str, str, int, str, int]]) -> list[list[DomainEvent]]:
    """Let each server write its own streams, its epochs never going back."""
    streams: dict[tuple[str, str], list[DomainEvent]] = {}
    epochs: dict[tuple[str, str], int] = {}
    for mailbox, server, epoch, what, at_s in told:
        key = (mailbox, server)
        epochs[key] = max(epochs.get(key, 1), epoch)
        stream = streams.setdefault(key, [])
        stream.append(event_of(len(stream) + 1, mailbox, server, epochs[key], what, at_s))
    return list(streams.values())


def log_of(streams: list[list[DomainEvent]], rng: random.Random) -> MemoryLogRecorder:
    """Mix streams as they may arrive: each in its own order."""
    left = [stream[:] for stream in streams]
    log = MemoryLogRecorder(UUID(int=1))
    while any(left):
        event = rng.choice([stream for stream in left if stream]).pop(0)
        log.commit([Append([to_stored_event(event)])])
    return log


def profiles_in(bench: Bench, log: MemoryLogRecorder, page_events: int) -> list[MailboxProfile]:
    bench.clear()
    bench.runner(log, [PROFILES], page_events=page_events).catch_up()
    profiles = Profiles(bench.store)
    return [profiles.profile(mailbox).profile for mailbox in NAMES]


@OVER_ONE_STORE
@given(
    told=st.lists(TELL, min_size=1, max_size=14),
    seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    page_events=st.integers(1, 5),
)
def test_servers_that_heard_in_different_orders_have_equal_profiles(
    bench: Bench, told, seeds, page_events
):
    streams = streams_of(told)
    one, other = (
        profiles_in(bench, log_of(streams, random.Random(seed)), page_events) for seed in seeds
    )
    assert one == other


@OVER_ONE_STORE
@given(told=st.lists(TELL, min_size=1, max_size=14), seed=st.integers(0, 999))
def test_profile_is_what_the_write_side_decides_by(bench: Bench, told, seed):
    log = log_of(streams_of(told), random.Random(seed))
    events = [decode(entry.plain) for entry in log.read(1, 100)]
    for profile in profiles_in(bench, log, 100):
        state = write_side.project(profile.mailbox, events)
        assert (profile.home, profile.epoch) == (state.home, state.epoch)
        assert (profile.pin.blob if profile.pin else None) == (
            state.pin.verifier if state.pin else None
        )
        for kind in GreetingKind:
            said, decided = profile.greeting(kind.value), state.greeting(kind)
            assert (said.blob if said else None) == (decided.blob if decided else None)
        assert [g.subject for g in profile.greetings] == sorted(
            kind.value for kind in GreetingKind if state.greeting(kind)
        )


def test_answer_says_what_it_rests_on_and_an_unknown_mailbox_is_empty(bench: Bench):
    told = [("2001@default", "alpha", 1, what, 0) for what in ("greet", "pin", "no pin")]
    log = log_of(streams_of(told), random.Random(1))
    bench.run(log, [PROFILES])
    profiles = Profiles(bench.store)
    assert profiles.profile("2001@default").position == 3
    assert profiles.profile("2001@default").profile.pin is None
    assert profiles.profile("2009@default").profile == MailboxProfile(mailbox="2009@default")


def test_mailbox_whose_name_no_index_takes_is_known_again_on_the_next_page(bench: Bench):
    name = f"{'2' * 500}@default"
    told = [(name, "alpha", 1, what, 0) for what in ("greet", "pin", "greet busy")]
    runner = bench.runner(log_of(streams_of(told), random.Random(1)), [PROFILES], page_events=1)
    runner.catch_up()
    assert [status.stopped_error for status in runner.status()] == [None]
    profile = Profiles(bench.store).profile(name).profile
    assert [said.subject for said in profile.said] == ["busy", "pin", "unavailable"]
