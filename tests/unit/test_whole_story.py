"""What servers tell of a message becomes one story, and what is missing in it shows."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID
from xml.etree import ElementTree

import msgspec
import pytest

from ledger.caller import seal_caller
from ledger.events import Caller, decode
from ledger.ids import message_stream_id
from ledger.migration.link import RejectedError, UnreachableError
from ledger.migration.wire import StoryAnswer, WireEvent
from ledger.sealing import MasterKey
from ledger.storage.callers import Callers
from ledger.storage.event_log import Append
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.vault import Vault
from tests.unit.test_events import GOLDEN_FILES
from vmledger.story_picture import custody, draw_story
from vmledger.story_words import describe
from vmledger.whole_story import StoryCollector, Witness, find_call, join

CALL, MESSAGE = UUID(int=1), UUID(int=2)
AT_BRAVO = message_stream_id(MESSAGE, "bravo")
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
GOLDEN = {path.stem.partition(".")[0]: json.loads(path.read_text()) for path in GOLDEN_FILES}
SVG = "{http://www.w3.org/2000/svg}"


def event(topic: str, stream: UUID, version: int, by: str, seconds: float, **fields) -> bytes:
    """The golden event of that kind, at another place and time."""
    common = {
        "originator_id": str(stream),
        "originator_version": version,
        "recorded_at": (NOON + timedelta(seconds=seconds)).isoformat(),
        "recorded_by": by,
    }
    known = GOLDEN[topic]
    if "message_id" in known:
        common["message_id"] = str(MESSAGE)
    if "call_id" in known:
        common["call_id"] = str(CALL)
    plain = msgspec.json.encode(known | common | fields)
    decode(plain)
    return plain


STORED = event("message-stored", CALL, 3, "alpha", 0, home="bravo")
MIGRATED = event("message-migrated", CALL, 4, "alpha", 9, home="bravo", home_position=2)
HEARD = event("message-heard", AT_BRAVO, 2, "bravo", 20)


def delivered(seconds: float) -> bytes:
    return event("message-delivered", AT_BRAVO, 1, "bravo", seconds, origin="alpha")


def told(server: str, *plains: bytes, around: tuple[bytes, ...] = (), left_out: int = 0):
    wired = [WireEvent(n, msgspec.Raw(plain)) for n, plain in enumerate((*plains, *around), 1)]
    return StoryAnswer(
        server=server,
        position=len(wired),
        events=tuple(wired[: len(plains)]),
        around=tuple(wired[len(plains) :]),
        left_out=left_out,
    )


def story_of(**answers):
    return join(MESSAGE, CALL, answers)


def topics(story) -> list[str]:
    return [step.event for step in story.steps]


def test_event_that_two_servers_hold_is_one_step_with_both_places():
    story = story_of(
        alpha=told("alpha", STORED, MIGRATED), bravo=told("bravo", STORED, delivered(5), HEARD)
    )
    assert topics(story) == [
        "message-stored",
        "message-delivered",
        "message-migrated",
        "message-heard",
    ]
    assert story.steps[0].positions == {"alpha": 1, "bravo": 1}
    assert story.is_whole


def test_cause_comes_before_effect_although_the_clock_of_the_home_is_slow():
    story = story_of(
        alpha=told("alpha", STORED, MIGRATED), bravo=told("bravo", STORED, delivered(-3600))
    )
    assert topics(story)[:2] == ["message-stored", "message-delivered"]


def test_receipt_comes_after_what_it_was_given_for():
    story = story_of(
        alpha=told("alpha", STORED, MIGRATED), bravo=told("bravo", STORED, delivered(3600), HEARD)
    )
    assert topics(story).index("message-delivered") < topics(story).index("message-migrated")


def test_logs_that_contradict_each_other_are_still_told_to_the_end():
    other = event("message-heard", CALL, 4, "alpha", 3)
    story = story_of(
        alpha=told("alpha", HEARD, STORED, other), bravo=told("bravo", other, delivered(5), HEARD)
    )
    assert sorted(topics(story)) == [
        "message-delivered",
        "message-heard",
        "message-heard",
        "message-stored",
    ]


def test_different_events_at_one_place_of_a_stream_are_both_shown_as_disputed():
    forged = event("message-stored", CALL, 3, "alpha", 0, home="charlie")
    story = story_of(alpha=told("alpha", STORED), bravo=told("bravo", forged, delivered(5)))
    assert [(step.event, step.is_disputed) for step in story.steps] == [
        ("message-stored", True),
        ("message-stored", True),
        ("message-delivered", False),
    ]


@pytest.mark.parametrize(
    ("answer", "witness"),
    [
        (UnreachableError("no answer"), Witness.AWAY),
        (RejectedError("unknown question", peer="bravo"), Witness.REFUSED),
        (told("bravo", STORED, left_out=3), Witness.TOLD),
    ],
)
def test_story_that_may_lack_something_says_so(answer, witness):
    story = story_of(alpha=told("alpha", STORED), bravo=answer)
    assert not story.is_whole
    assert {asked.server: asked.answer for asked in story.servers}["bravo"] is witness


def test_server_that_knows_nothing_takes_nothing_from_the_story():
    story = story_of(alpha=told("alpha", STORED), bravo=told("bravo"))
    assert story.is_whole
    assert story.servers[1].answer is Witness.KNOWS_NOTHING


class SilentLink:
    """A peer that takes the question and never answers."""

    peer = "bravo"

    async def exchange(self, route, body):
        await asyncio.sleep(3600)


class OwnLog:
    """A teller whose log holds the stored message."""

    async def tell(self, message_id, call_id):
        return told("alpha", STORED)


async def at_once(work):
    return work()


def collected(teller, links, vault):
    collector = StoryCollector("alpha", teller, links, callers=Callers(vault), offload=at_once)
    return asyncio.run(asyncio.wait_for(collector.collect(MESSAGE, "ann", 0.05), 30))


@pytest.fixture
def log():
    return MemoryLogRecorder()


@pytest.fixture
def vault(log):
    return Vault(log, MasterKey(bytes(32)), random.Random(1).randbytes)


def test_silent_server_is_waited_for_no_longer_than_asked_and_named(vault):
    story = collected(OwnLog(), {"bravo": SilentLink()}, vault)
    assert topics(story) == ["message-stored"]
    assert {a.server: a.answer for a in story.servers}["bravo"] is Witness.AWAY


class ReceivedByBravo:
    """A teller whose log has the call as another server took it."""

    def __init__(self, personal):
        self.received = event("call-received", CALL, 1, "bravo", 0, personal=personal)

    async def tell(self, message_id, call_id):
        return told("alpha", self.received, STORED)


def test_story_names_who_called_as_long_as_the_key_is_here(log, vault):
    key, wrapped = vault.new_key(CALL)
    caller = Caller(number="+4930", name="Ann", redirecting_number="2009")
    teller = ReceivedByBravo(seal_caller(caller, key, random.Random(1).randbytes))
    said = [collected(teller, {}, vault).steps[0].text]
    for keys in ([wrapped], vault.destroy([CALL])):
        log.commit([Append([], keys=keys)])
        said.append(collected(teller, {}, vault).steps[0].text)
    assert said == [
        "a call from somebody whose key is not here for 2001: no-answer",
        "a call from +4930 (Ann) for 2001, sent on by 2009: no-answer",
        "a call from somebody who was erased for 2001: no-answer",
    ]


def test_story_from_before_the_sealing_names_who_called(vault):
    text = collected(ReceivedByBravo({"number": "+4930"}), {}, vault).steps[0].text
    assert text == "a call from +4930 for 2001: no-answer"


def test_call_is_found_at_whoever_knows_it():
    assert find_call([told("charlie"), told("bravo", delivered(5))]) == CALL
    assert find_call([told("alpha", STORED)]) == CALL
    assert find_call([told("charlie")]) is None


def test_every_kind_of_event_has_words_of_its_own_or_is_named():
    for topic, fields in GOLDEN.items():
        assert describe(fields), topic
    assert "newer program" in describe({"event": "message-folded", "v": 1})
    assert "version 9" in describe({"event": "message-stored", "v": 9})


def test_custody_passes_from_the_origin_to_the_home_with_the_receipt():
    story = story_of(
        alpha=told("alpha", STORED, MIGRATED), bravo=told("bravo", STORED, delivered(5), HEARD)
    )
    assert custody(story.steps) == [("alpha", 0, 2), ("bravo", 1, None)]


def drawn(story) -> ElementTree.Element:
    return ElementTree.fromstring(draw_story(story))


def test_picture_has_a_lane_for_every_server_and_a_sentence_for_every_step():
    failed = event("attempts-failed", UUID(int=9), 1, "alpha", 2, home="bravo")
    svg = drawn(
        story_of(
            alpha=told("alpha", STORED, MIGRATED, around=(failed,)),
            bravo=told("bravo", STORED, delivered(500), HEARD),
            charlie=UnreachableError("no answer"),
        )
    )
    words = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"alpha", "bravo", "charlie"} <= set(words)
    assert "charlie is away: what it knows is missing here" in words
    assert any("min …" in word for word in words), "the pause is written down"
    assert len(list(svg.iter(f"{SVG}g"))) == 5
    assert [line.get("marker-end") for line in svg.iter(f"{SVG}line")].count("url(#head)") == 2


def test_picture_can_be_read_aloud():
    svg = drawn(story_of(alpha=told("alpha", STORED)))
    assert svg.get("role") == "img"
    named = {e.get("id"): e.text for e in svg.iter() if e.get("id")}
    assert str(MESSAGE) in named["title"]
    assert "stored here" in named["description"]
    assert svg.get("aria-labelledby") == "title description"


def test_name_that_xml_cannot_hold_does_not_break_the_picture():
    personal = {"number": "1", "name": "<script>\x00\x1b]&\ufffe</script>"}
    call = event("call-received", CALL, 1, "alpha", 0, personal=personal)
    svg = drawn(story_of(alpha=told("alpha", call, STORED)))
    assert "<script>" in "".join(svg.itertext())
    assert not list(svg.iter(f"{SVG}script"))
