"""Getting the blobs that a copied log names: in how many questions, and from whom."""

import asyncio
import hashlib

import pytest

from ledger.errors import PeerError
from ledger.migration import blob_fetch
from ledger.migration.blob_fetch import Carried, Fetched, complete, fetch_blobs
from ledger.migration.link import PeerClient
from ledger.migration.log_reading import read_blobs
from ledger.migration.log_source import LogTarget, PeerSource
from ledger.migration.wire import BlobsRequest
from ledger.migration.wire_bytes import decode_request, encode_blobs
from ledger.storage.blob_store import NewBlob
from ledger.storage.event_log import Append
from ledger.storage.log_copy import LogCopy


async def in_place(work):
    return work()


class Carrier:
    """Notes what it is asked for, and how many questions are on their way at a time."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.most = self._now = 0

    async def carry(self, digests):
        self.asked.append(list(digests))
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return Carried(blobs=len(digests))


@pytest.fixture
def target(tmp_path):
    copy = LogCopy(tmp_path / "copy", is_new=True)
    yield LogTarget(
        of="alpha",
        public_key=bytes(32),
        recorder=copy.recorder,
        blobs=copy.blobs,
        cosigned=copy.cosigned,
        checkpoint=copy.checkpoint,
    )
    copy.close()


@pytest.mark.parametrize(
    ("blobs", "questions"),
    [(0, []), (1, [1]), (10, [10]), (11, [6, 5]), (20, [10, 10]), (21, [6, 6, 6, 3])],
)
def test_blobs_are_asked_for_in_pairs_of_questions_of_one_size(
    target, monkeypatch, blobs, questions
):
    monkeypatch.setattr(blob_fetch, "_QUESTION_BLOBS", 10)
    wanted = {hashlib.sha256(b"%d" % n).hexdigest(): False for n in range(blobs)}
    carrier, done = Carrier(), Fetched()
    asyncio.run(fetch_blobs(carrier, target, wanted, in_place, done))
    assert [len(asked) for asked in carrier.asked] == questions
    assert [digest for asked in carrier.asked for digest in asked] == list(wanted)
    assert done.blobs == blobs
    assert carrier.most == min(2, len(questions))


# --- What has rotted at its source ---------------------------------------------------------------

SOUNDS = [b"one" * 9000, b"two" * 9000, b"three" * 9000]
DIGESTS = [hashlib.sha256(sound).hexdigest() for sound in SOUNDS]


class BlobLink:
    """A link to a server that has blobs in a pack, and answers for them as a server does."""

    peer = "bravo"

    def __init__(self, copy: LogCopy) -> None:
        self.places = [(copy.recorder, copy.blobs)]
        self.asked: list[tuple[int, bool]] = []
        self.spoil = lambda body: body

    async def exchange(self, _route, body):
        request = decode_request(body, "alpha")
        assert isinstance(request, BlobsRequest)
        self.asked.append((len(request.digests), request.is_verified))
        found = read_blobs(request.digests, self.places, is_verified=request.is_verified)
        return self.spoil(encode_blobs(found))


@pytest.fixture
def link(tmp_path):
    """Give a source whose second blob has rotted."""
    copy = LogCopy(tmp_path / "source", is_new=True)
    packed = [NewBlob(d, s) for d, s in zip(DIGESTS, SOUNDS, strict=True)]
    locations = copy.blobs.put_pack(packed)
    copy.recorder.commit([Append([], blob_locations=locations)])
    pack = tmp_path / "source" / "blobs" / "packs" / f"{locations[0].pack}.pack"
    rotten = bytearray(pack.read_bytes())
    rotten[locations[1].offset_bytes] ^= 1
    pack.write_bytes(rotten)
    yield BlobLink(copy)
    copy.close()


def test_blob_that_has_rotted_in_its_pack_is_had_from_elsewhere_at_its_source(link):
    link.places[0][1].put(DIGESTS[1], SOUNDS[1])
    found = asyncio.run(PeerClient(link).blobs("alpha", DIGESTS, in_place))
    assert link.asked == [(3, False), (1, True)]
    assert {d: bytes(b) for d, b in found.blobs.items()} == dict(zip(DIGESTS, SOUNDS, strict=True))
    assert found.absent == ()


def test_blob_of_which_its_source_has_nothing_sound_is_absent(link):
    found = asyncio.run(PeerClient(link).blobs("alpha", DIGESTS, in_place))
    assert link.asked == [(3, False), (1, True)]
    assert set(found.blobs) == {DIGESTS[0], DIGESTS[2]}
    assert found.absent == (DIGESTS[1],)


def test_sound_blobs_are_asked_for_once(link):
    found = asyncio.run(PeerClient(link).blobs("alpha", [DIGESTS[0], DIGESTS[2]], in_place))
    assert link.asked == [(2, False)]
    assert (len(found.blobs), found.absent) == (2, ())


def test_blob_that_comes_damaged_again_and_again_is_an_error_that_names_it(link):
    link.spoil = lambda body: body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(PeerError, match=f"{DIGESTS[2]} was damaged on its way"):
        asyncio.run(PeerClient(link).blobs("alpha", [DIGESTS[2]], in_place))
    assert link.asked == [(1, False), (1, True)]


# --- What was dropped here, and is needed again ---------------------------------------------------


def test_blob_is_fetched_again_whose_pack_was_dropped_when_nobody_needed_it(target, link):
    """A message may come back to its former home, after that had given up its sound."""
    [location] = target.blobs.put_pack([NewBlob(DIGESTS[0], SOUNDS[0])])
    target.recorder.commit([Append([], blob_locations=[location])])
    target.blobs.delete_pack(location.pack)
    source = PeerSource(PeerClient(link), in_place)
    assert asyncio.run(complete(source, target, [DIGESTS[0]], in_place)) == []
    assert target.blobs.get(DIGESTS[0], location) == SOUNDS[0]
