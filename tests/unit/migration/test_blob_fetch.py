"""Getting the blobs that a copied log names: in how many questions, and from whom."""

import asyncio
import hashlib

import pytest

from ledger.migration import blob_fetch
from ledger.migration.blob_fetch import Carried, Fetched, fetch_blobs
from ledger.migration.log_source import LogTarget
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
