"""One build serves while another grows; they change places without anybody noticing."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from ledger.errors import NotFoundError, TransientError
from ledger.storage.memory import MemoryLogRecorder
from projections.advance import Advance
from projections.builds import BuildState
from projections.lifecycle import Lifecycle
from projections.mailboxes import MAILBOXES, MESSAGE, Mailboxes
from projections.projection import decode_entries
from projections.store import Asked
from tests.support.histories import History
from tests.support.running import Bench, FixedClock, replayed, serving

OLDER = MAILBOXES.version
NEWER = OLDER + 1


def tables(bench: Bench) -> set[str]:
    with bench.store.reading() as connection:
        return set(sa.inspect(connection).get_table_names())


@pytest.fixture
def history() -> History:
    history = History()
    for extension in ("2000", "2001", "2001"):
        history.call(extension)
    return history


def test_a_question_before_the_first_build_says_try_again(bench: Bench):
    with pytest.raises(TransientError, match="not built yet"):
        Mailboxes(bench.store).page("2001@default")


def test_a_rebuild_takes_the_place_of_the_old_tables_with_the_same_contents(
    bench: Bench, history: History
):
    runner = bench.run(history.log)
    before = bench.contents()
    runner.rebuild("mailboxes")
    runner.catch_up()
    assert bench.contents() == before
    assert serving(runner, "mailboxes").number == 2
    assert f"mailboxes_v{OLDER}_r2_message" in tables(bench)
    assert f"mailboxes_v{OLDER}_message" not in tables(bench)


def test_while_a_rebuild_grows_the_old_build_serves_and_follows_the_log(
    bench: Bench, history: History
):
    bench.run(history.log)
    runner = bench.runner(history.log, page_events=2)
    runner.rebuild("mailboxes")
    runner.run_cycle()
    history.call("2001")
    runner.run_cycle()
    runner.run_cycle()
    growing = next(s for s in runner.status() if not s.is_serving)
    assert 0 < growing.position < history.position
    page = Mailboxes(bench.store).page("2001@default")
    assert len(page.entries) == 3
    assert page.position == history.position


def test_while_the_disk_is_too_full_a_rebuild_rests_and_the_old_build_goes_on(
    bench: Bench, history: History
):
    bench.run(history.log)
    has_room = False
    runner = bench.runner(history.log, may_build=lambda: has_room)
    runner.rebuild("mailboxes")
    history.call("2001")
    runner.catch_up()
    assert serving(runner, "mailboxes").position == history.position
    assert next(s for s in runner.status() if not s.is_serving).position == 0
    has_room = True
    runner.catch_up()
    assert serving(runner, "mailboxes").number == 2


def test_a_rebuild_asked_for_twice_is_one(bench: Bench, history: History):
    runner = bench.run(history.log)
    assert runner.rebuild("mailboxes") == runner.rebuild("mailboxes")


def test_a_rebuild_of_an_unknown_projection_is_the_callers_error(bench: Bench, history: History):
    runner = bench.run(history.log)
    with pytest.raises(NotFoundError, match="mailboxes"):
        runner.rebuild("mailbox")


def test_a_changed_version_is_built_beside_the_old_one_that_it_can_read(
    bench: Bench, history: History
):
    bench.run(history.log, [MAILBOXES])
    newer = replace(MAILBOXES, version=NEWER, readable_versions=frozenset({OLDER}))
    runner = bench.runner(history.log, [newer], page_events=2)
    runner.run_cycle()
    states = {(s.version, s.is_serving, s.state) for s in runner.status()}
    assert states == {(OLDER, True, BuildState.FROZEN), (NEWER, False, BuildState.RUNNING)}
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 2
    runner.catch_up()
    assert [(s.version, s.is_serving) for s in runner.status()] == [(NEWER, True)]
    assert f"mailboxes_v{OLDER}_message" not in tables(bench)
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 2


def test_a_changed_version_that_cannot_read_the_old_tables_serves_from_its_start(
    bench: Bench, history: History
):
    bench.run(history.log, [MAILBOXES])
    newer = replace(MAILBOXES, version=NEWER, readable_versions=frozenset())
    runner = bench.runner(history.log, [newer], page_events=2)
    runner.run_cycle()
    assert [(s.version, s.is_serving, s.position) for s in runner.status()] == [(NEWER, True, 2)]
    assert f"mailboxes_v{OLDER}_message" not in tables(bench)


def test_a_restarted_runner_goes_on_where_the_last_one_ended(bench: Bench, history: History):
    bench.run(history.log)
    history.call("2000")
    runner = bench.run(history.log)
    assert bench.contents() == replayed(history.log)
    assert {s.number for s in runner.status()} == {1}


def test_a_half_grown_build_is_continued_after_a_restart(bench: Bench, history: History):
    bench.run(history.log)
    first = bench.runner(history.log, page_events=2)
    first.rebuild("mailboxes")
    first.run_cycle()
    second = bench.runner(history.log, page_events=2)
    second.run_cycle()
    growing = next(s for s in second.status() if not s.is_serving)
    assert (growing.number, growing.position) == (2, 4)


def test_a_log_that_went_back_and_on_again_is_built_anew(bench: Bench):
    history, other = History(seed=1), History(seed=1)
    for _ in range(3):
        history.call("2001")
        other.call("2001")
    bench.run(history.log)
    history.call("2001")
    bench.run(history.log)
    other.call("2002")
    other.call("2002")
    runner = bench.run(other.log)
    assert bench.contents() == replayed(other.log)
    assert {s.number for s in runner.status()} == {2}


def test_a_log_of_the_same_length_and_other_contents_is_noticed_at_the_start(bench: Bench):
    history, other = History(seed=1), History(seed=2)
    history.call("2001")
    other.call("2001")
    bench.run(history.log)
    runner = bench.run(other.log)
    assert bench.contents() == replayed(other.log)
    assert {s.number for s in runner.status()} == {2}


def test_a_log_that_is_restored_under_a_running_server_is_noticed(bench: Bench):
    history = History()
    history.call("2001")
    backup = history.log.image.copy()
    history.call("2001")
    runner = bench.run(history.log)
    history.log.image = backup
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 2
    runner.catch_up()
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 1
    assert {s.state for s in runner.status()} == {BuildState.RUNNING}


def test_a_new_incarnation_over_the_same_events_rebuilds_nothing(bench: Bench, history: History):
    bench.run(history.log)
    image = history.log.image.copy()
    twin = MemoryLogRecorder(image=image)
    twin.start_incarnation(history.taken[0].call_id)
    runner = bench.run(twin)
    assert {s.number for s in runner.status()} == {1}


def test_a_question_that_is_overtaken_by_a_swap_is_answered_all_the_same(
    bench: Bench, history: History
):
    runner = bench.run(history.log)
    seen: list[str] = []

    def question(asked: Asked) -> int:
        table = asked.table(MESSAGE)
        seen.append(table.name)
        if len(seen) == 1:
            runner.rebuild("mailboxes")
            runner.catch_up()
        return len(asked.records(MESSAGE, table.select()))

    assert bench.store.ask(MAILBOXES, question) == 3
    assert serving(runner, "mailboxes").number == 2


def test_readers_never_see_a_swap(bench: Bench, history: History):
    runner = bench.run(history.log)
    mailboxes = Mailboxes(bench.store)
    expected = mailboxes.page("2001@default")
    answered = threading.Semaphore(0)
    failures: list[object] = []
    is_over = threading.Event()

    def read() -> None:
        try:
            while not is_over.is_set():
                page = mailboxes.page("2001@default")
                if page != expected:
                    failures.append(page)
                answered.release()
        except Exception as error:
            failures.append(error)
            answered.release()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        runner.rebuild("mailboxes")
        runner.catch_up()
        assert answered.acquire(timeout=30)
    is_over.set()
    reader.join()
    assert failures == []
    assert serving(runner, "mailboxes").number == 6


def test_a_page_that_another_process_has_partly_folded_is_not_folded_twice(
    bench: Bench, history: History
):
    bench.runner(MemoryLogRecorder()).run_cycle()
    (stale,) = bench.store.builds("mailboxes")
    page = decode_entries(history.log.read(1, 1000))
    advance = Advance(bench.store, history.log.root_at, FixedClock().now)
    advance.take(MAILBOXES, stale, page[:5])
    advance.take(MAILBOXES, stale, page)
    advance.take(MAILBOXES, stale, page)
    found = bench.contents()
    expected = replayed(history.log)
    for table in ("mailboxes.message", "mailboxes.message.count"):
        assert found[table] == expected[table]


def test_a_page_that_leaves_a_gap_is_not_folded(bench: Bench, history: History):
    bench.runner(MemoryLogRecorder()).run_cycle()
    (empty,) = bench.store.builds("mailboxes")
    page = decode_entries(history.log.read(5, 1000))
    Advance(bench.store, history.log.root_at, FixedClock().now).take(MAILBOXES, empty, page)
    assert bench.store.builds("mailboxes") == [empty]


def test_a_build_that_another_process_has_swapped_in_is_left_alone(bench: Bench, history: History):
    runner = bench.run(history.log)
    runner.rebuild("mailboxes")
    lifecycle = Lifecycle(bench.store, history.log, [MAILBOXES], FixedClock().now)
    while bench.store.builds("mailboxes")[-1].position < history.position:
        bench.runner(history.log)._advance(history.log.head())
    stale = bench.store.builds("mailboxes")
    lifecycle.swap_in(stale, history.log.head())
    lifecycle.swap_in(stale, history.log.head())
    assert bench.contents() == replayed(history.log)
    assert serving(runner, "mailboxes").number == 2
