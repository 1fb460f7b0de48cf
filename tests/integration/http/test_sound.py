"""The sound of a message through the HTTP API."""

import base64
import hashlib

import pytest

from tests.support.api import wav

AUDIO = wav(4000)


@pytest.fixture(scope="module")
def message(api):
    return api.leave_message("1201", AUDIO)


@pytest.fixture(scope="module")
def path(api, message):
    return api.message_path(message) + "/audio"


ORIGINAL = {"Accept": "audio/original"}


def test_the_original_is_what_was_sent_bit_for_bit(api, path):
    answer = api.operator.get(path, headers=ORIGINAL)
    assert answer.status_code == 200
    assert answer.content == AUDIO
    digest = base64.b64encode(hashlib.sha256(AUDIO).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"


@pytest.mark.parametrize(
    ("accept", "media_type", "magic"),
    [
        ("*/*", "audio/wav", b"RIFF"),
        ("audio/mpeg", "audio/mpeg", b""),
        ("audio/ogg", "audio/ogg", b"OggS"),
    ],
)
def test_a_player_gets_the_format_that_it_accepts(api, path, accept, media_type, magic):
    answer = api.operator.get(path, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert answer.content.startswith(magic)
    assert answer.headers["Vary"] == "Accept"


def test_ranges_join_to_the_whole(api, path):
    parts, first = [], 0
    while first < len(AUDIO):
        answer = api.operator.get(
            path, headers=ORIGINAL | {"Range": f"bytes={first}-{first + 9999}"}
        )
        assert answer.status_code == 206
        last = min(first + 9999, len(AUDIO) - 1)
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(AUDIO)}"
        parts.append(answer.content)
        first = last + 1
    assert b"".join(parts) == AUDIO


def test_a_range_after_the_end_is_refused_with_the_size(api, path):
    answer = api.operator.get(path, headers=ORIGINAL | {"Range": f"bytes={len(AUDIO)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(AUDIO)}"


def test_what_the_client_has_already_is_not_sent_again(api, path):
    etag = api.operator.get(path, headers=ORIGINAL).headers["ETag"]
    answer = api.operator.get(path, headers=ORIGINAL | {"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_each_format_has_an_etag_of_its_own(api, path):
    tags = {
        api.operator.get(path, headers={"Accept": accept}).headers["ETag"]
        for accept in ("audio/original", "audio/mpeg", "audio/ogg")
    }
    assert len(tags) == 3


def test_only_who_asks_for_it_is_recorded_as_a_listener(api):
    message = api.leave_message("1202")
    path = api.message_path(message)
    api.operator.get(path + "/audio")
    assert api.operator.get(path).json()["status"] == "new"
    api.operator.get(path + "/audio?mark=heard")
    assert api.operator.get(path).json()["status"] == "heard"


def test_the_peaks_show_the_sound_in_as_many_parts_as_asked_for(api, message):
    answer = api.operator.get(api.message_path(message) + "/peaks?buckets=50").json()
    assert len(answer["peaks"]) == 50
    assert all(-128 <= low <= high <= 127 for low, high in answer["peaks"])
    assert answer["duration_ms"] == 4000
