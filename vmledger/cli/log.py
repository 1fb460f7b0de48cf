"""Read, follow and verify the log, beside the server if it runs.

Source: RFC 9162 section 2 (tree, checkpoint).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
import typer

from ledger.checkpoint import log_key
from ledger.configuration import Configuration, load_configuration
from ledger.configuration.master_key import open_master_key
from ledger.errors import CallerError, NotFoundError
from ledger.events import AccessKind, decode
from ledger.identity import load_identity, parse_public_key, write_new_file
from ledger.ids import MAX_ASKED_POSITION
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.message_streams import read_story
from vmledger.cli.api_client import connect
from vmledger.cli.blobs import RESTORE, print_verification, verify_all
from vmledger.cli.options import (
    ConfigOption,
    JsonOption,
    MessageId,
    TokenOption,
    UrlOption,
    load_config,
    read_file,
)
from vmledger.cli.output import (
    entry_document,
    print_facts,
    print_json,
    print_json_line,
    print_table,
    progress_bar,
    show_time,
)
from vmledger.message_proof import ProofReport, find_key, prove_message, read_proof
from vmledger.message_proof import check_proof as check
from vmledger.one_line import one_line
from vmledger.stores import open_checkpoints, open_log, open_read_models, open_vault
from vmledger.verification import LogVerification, verify_log
from vmledger.witnessed import read_cosigned, server_keys

if TYPE_CHECKING:
    from ledger.migration.log_diff import LogDiff
    from ledger.storage.blob_store import BlobStore
    from vmledger.archive_place import ArchivePlace

_PAGE: Final = 1000
_FOLLOW_POLL_S: Final = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(read)
    group.command("verify")(verify)
    group.command("checkpoint")(checkpoint)
    group.command("prove")(prove)
    group.command("check-proof")(check_proof)
    group.command("diff")(diff)
    group.command("backup-verified")(backup_verified)
    group.command("acknowledge")(acknowledge)
    app.add_typer(group, name="log")


def read(
    context: typer.Context,
    *,
    start: Annotated[
        int, typer.Option("--from", min=1, max=MAX_ASKED_POSITION, help="First position to print.")
    ] = 1,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many events.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the log, one event a line. With --json: one JSON document a line."""
    if context.invoked_subcommand is not None:
        return
    with open_log(load_config(config)) as recorder:
        for entry in _entries(recorder, start, limit, is_following=follow):
            if as_json:
                print_json_line(entry_document(entry))
            else:
                print(_as_line(entry), flush=follow)


def _entries(
    recorder: LogRecorder, start: int, limit: int | None, *, is_following: bool
) -> Iterator[LogEntry]:
    left = limit
    while left is None or left > 0:
        page = recorder.read(start, _PAGE if left is None else min(left, _PAGE))
        yield from page
        if page:
            start = page[-1].position + 1
            left = None if left is None else left - len(page)
        elif not is_following:
            return
        else:
            time.sleep(_FOLLOW_POLL_S)


def _as_line(entry: LogEntry) -> str:
    event = decode(entry.plain, f"position {entry.position}")
    origin = f" from {entry.origin}:{entry.origin_position}" if entry.origin else ""
    return (
        f"{entry.position:>8}  {show_time(event.recorded_at)}  {entry.topic:<20}  "
        f"{entry.originator_id} v{entry.originator_version}{origin}"
    )


def verify(
    with_blobs: Annotated[
        bool, typer.Option("--blobs", help="Also read the audio of every message held here.")
    ] = False,
    copy_of: Annotated[
        str | None,
        typer.Option(
            "--copy-of", metavar="SERVER", help="Verify the copy that is kept here of its log."
        ),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="PLACE",
            help="Verify this server's archive in a directory or s3://BUCKET/PREFIX?endpoint=URL.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the whole log and hold it against its tree, and what other servers signed of it.

    Every kept key of a call is opened with the master key, too; those in the copy of another
    server's log only that server can open.

    Names the place of whatever is not as it was written, and exits with 1.
    """
    from ledger.storage.key_check import check_keys  # noqa: PLC0415 - takes a second to import
    from ledger.storage.row_check import check_rows  # noqa: PLC0415 - as above
    from ledger.storage.sql_cosigned_checkpoints import read_to_verify  # noqa: PLC0415 - as above

    loaded = load_config(config)
    master = open_master_key(loaded.identity) if copy_of is None else None
    with _log_to_verify(loaded, copy_of, archive) as log:
        loaded, events = log.config, log.config.stores.events
        with open_log(loaded) as recorder, progress_bar() as bar:
            task = bar.add_task("log", total=None)
            faults = check_rows(events) + (check_keys(events, master) if master is not None else [])
            rows = read_to_verify(events)  # before the log is read: none may be newer than its end
            verification = verify_log(
                recorder,
                lambda done, total: bar.update(task, completed=done, total=total),
                server=loaded.server,
                keys=server_keys(loaded),
                checkpoints=rows,
                faults=faults,
                url=events,
            )
        report = verify_all(loaded, log.blobs) if with_blobs and verification.is_intact else None
    if as_json:
        print_json({"log": verification, "blobs": report})
    else:
        _print_verification(verification, log.advice)
        if report is not None:
            print_verification(report, log.blobs_advice)
    if not verification.is_intact or (report is not None and not report.is_sound):
        raise typer.Exit(1)


class _VerifiedLog(NamedTuple):
    """Which log is verified: a server's own, unless said otherwise."""

    config: Configuration
    """One with the stores of that log."""
    blobs: BlobStore | None = None
    """Its recordings, if they do not lie where the configuration says."""
    advice: str = "stop the server, keep its disk as it is, and restore the log from a backup"
    """What to do when it is not intact."""
    blobs_advice: str = RESTORE
    """What to do when a recording is not."""


@contextmanager
def _log_to_verify(
    config: Configuration, copy_of: str | None, archive: str | None
) -> Iterator[_VerifiedLog]:
    """Open the log that is meant."""
    if copy_of is not None and archive is not None:
        raise CallerError("say either --copy-of or --archive")
    if archive is not None:
        from vmledger.archive import archive_as_log  # noqa: PLC0415 - takes long to import
        from vmledger.archive_place import open_place  # noqa: PLC0415 - as above

        place = open_place(archive)
        with archive_as_log(config, place) as found:
            yield _archived_log(found, place)
    elif copy_of is not None:
        yield _copied_log(config, copy_of)
    else:
        yield _VerifiedLog(config)


def _archived_log(config: Configuration, place: ArchivePlace) -> _VerifiedLog:
    anew = "write a new archive to another place with 'vmledger archive'"
    return _VerifiedLog(
        config,
        place.blobs,
        f"keep {place.name} as it is, run 'vmledger log verify' without --archive, and if the "
        f"server's own log is intact, {anew}",
        f"take these from another copy of {place.name}, or {anew}",
    )


def _copied_log(config: Configuration, server: str) -> _VerifiedLog:
    from ledger.storage.log_copy import (  # noqa: PLC0415 - takes long to import
        BLOBS,
        CURRENT_COPY,
        LOG_FILE,
    )

    folder = config.mirrors / config.directory.entry(server).id / CURRENT_COPY
    if not (folder / LOG_FILE).is_file():
        raise NotFoundError(f"no copy of the log of {server} is kept in {folder}")
    stores = msgspec.structs.replace(
        config.stores, events=f"sqlite:///{folder / LOG_FILE}", blobs=f"file://{folder / BLOBS}"
    )
    anew = (
        f"stop this server, move {folder} out of {config.mirrors} and keep it, and start this "
        f"server again: it copies the log of {server} anew, if {server} still has it"
    )
    return _VerifiedLog(
        msgspec.structs.replace(config, server=server, stores=stores),
        advice=anew,
        blobs_advice=anew,
    )


def _print_verification(verification: LogVerification, advice: str) -> None:
    for finding in verification.findings:
        print(f"{finding.place}: {finding.what}")
    print_facts(
        (
            ("events", verification.position),
            ("streams", verification.streams),
            ("not understood", verification.opaque_events or None),
            ("receipts", verification.receipts or None),
            ("of unknown servers", verification.unchecked_receipts or None),
            ("co-signed checkpoints", verification.cosignatures or None),
            ("of unknown witnesses", verification.unchecked_cosignatures or None),
            ("witnessed", _show_witnessed(verification)),
            ("root", verification.root),
            ("log", "intact" if verification.is_intact else "NOT intact"),
        )
    )
    if not verification.is_intact:
        print(advice)


def _show_witnessed(verification: LogVerification) -> str:
    if not verification.witnesses:
        return "by no other server"
    return "; ".join(
        f"by {one.server} up to position {one.position} at {show_time(one.at)}"
        for one in verification.witnesses
    )


def diff(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The id of the other server.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name the events on which this server's log and another's disagree, or which one lacks.

    Asks the other server, over the way between servers. Exit code 1 when there is a difference.
    """
    from vmledger.log_comparison import compare_with  # noqa: PLC0415 - takes a second to import

    loaded = load_config(config)
    with open_log(loaded) as recorder, progress_bar() as bar:
        task = bar.add_task(server, total=None)
        found = compare_with(
            loaded,
            server,
            recorder,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(msgspec.to_builtins(found) | {"is_same": found.is_same})
    else:
        _print_diff(found)
    if not found.is_same:
        raise typer.Exit(1)


def _print_diff(found: LogDiff) -> None:
    for one in found.differences:
        taken = f", taken in at {one.taken_position}" if one.taken_position else ""
        what = f"{one.topic or 'an event'} of stream {one.stream}" if one.stream else one.topic
        print(f"{one.kind.value}: {one.origin} position {one.origin_position}{taken}: {what}")
    print_facts(
        (
            (f"{found.server} up to", found.position),
            (f"{found.peer} up to", found.peer_position),
            (f"taken in from {found.peer}", found.taken_here),
            (f"taken in from {found.server}", found.taken_there),
            ("acknowledged messages", found.acknowledged),
            ("differences", found.count),
        )
    )


def checkpoint(
    *,
    is_signed: Annotated[
        bool, typer.Option("--signed", help="Print it signed, as the tools of public logs read it.")
    ] = False,
    is_witnessed: Annotated[
        bool,
        typer.Option(
            "--witnessed", help="Print, signed, the newest one that the most servers co-signed."
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print where the log ends, its Merkle root there, and how far others co-signed it."""
    loaded = load_config(config)
    identity = load_identity(loaded.server, loaded.identity.signing_key)
    with open_log(loaded) as recorder, open_checkpoints(loaded) as checkpoints:
        head = recorder.head()
        cosigned = read_cosigned(loaded, identity, recorder, checkpoints)
    if (is_signed or is_witnessed) and not as_json:
        note = cosigned.best() if is_witnessed else cosigned.head
        if note is None:
            raise NotFoundError("no other server has co-signed this log yet; see 'vmledger doctor'")
        print(note.to_text(), end="")
        return
    witnesses = cosigned.how_far()
    facts = {
        "server": loaded.server,
        "incarnation": str(head.incarnation),
        "position": head.position,
        "root": head.root.hex(),
        "key": log_key(loaded.server, head.incarnation, identity.public_key).to_text(),
    }
    if as_json:
        best = cosigned.best()
        print_json(
            facts
            | {
                "signed": cosigned.head.to_text(),
                "witnessed": best.to_text() if best is not None else None,
                "witnesses": witnesses,
            }
        )
    else:
        told = [f"{one.server} up to {one.position}, {show_time(one.at)}" for one in witnesses]
        print_facts((*facts.items(), ("witnesses", "; ".join(told) or "none yet")))


def prove(
    message_id: MessageId,
    out: Annotated[
        Path | None, typer.Option("--out", help="The new file; else it is printed.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a file that proves to a third party that a message stands in this log.

    It holds the events of the message as they were hashed: who called stays sealed. With them
    comes what it takes to tell whether a recording is the message's.
    """
    from vmledger.local_access import record_local_access  # noqa: PLC0415 - takes a second to import

    loaded = load_config(config)
    identity = load_identity(loaded.server, loaded.identity.signing_key)
    with (
        open_log(loaded) as recorder,
        open_checkpoints(loaded) as checkpoints,
        open_read_models(loaded, recorder) as models,
    ):
        entry = models.expect_message(message_id)
        record_local_access(
            recorder, loaded.server, AccessKind.EXPORTED, "proof", message_id=message_id
        )
        told = read_story(recorder.read_streams, loaded.server, entry.call_id, message_id)
        cosigned = read_cosigned(loaded, identity, recorder, checkpoints)
        note = cosigned.best(told[-1].position) or cosigned.head
        key = find_key(open_vault(loaded, recorder), entry.call_id)
        proof = prove_message(message_id, loaded.server, told, note, recorder.read_hashes, key=key)
    text = msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"
    if out is None:
        print(text.decode(), end="")
    else:
        write_new_file(out, text, mode=0o600)
        print(f"{out}: {len(told)} events of message {message_id}; check it with")
        print(f"  vmledger log check-proof {out} --key {loaded.server}=PUBLIC_KEY")


def check_proof(
    file: Annotated[Path, typer.Argument(help="What 'vmledger log prove' made.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="SERVER=KEY", help="A server's public key. Repeatable."),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", help="Is this file the message's recording?")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Take the keys of all servers from this file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a proof without any server. Exit code 1 when it does not hold."""
    report = check(read_proof(read_file(file)), read_public_keys(key or [], config))
    is_its_audio = audio is None or report.is_recording(read_file(audio))
    if as_json:
        print_json({"holds": report.holds, "is_its_audio": is_its_audio, "report": report})
    else:
        _print_proof(report)
        if audio is not None:
            print(f"{audio}: {'the recording' if is_its_audio else 'NOT the recording'}")
    if not report.holds or not is_its_audio:
        raise typer.Exit(1)


def read_public_keys(given: Sequence[str], config: Path | None) -> dict[str, bytes]:
    """Read servers' public keys as they are given, and those of a configuration."""
    keys = server_keys(load_configuration(config)) if config is not None else {}
    for text in given:
        server, equals, encoded = text.partition("=")
        if not equals or not server:
            raise CallerError(f"--key {text!r} is not SERVER=KEY; write it like alpha=MCowBQ…")
        keys[server] = parse_public_key(encoded)
    return keys


def _print_proof(report: ProofReport) -> None:
    for problem in report.problems:
        print(f"NOT proved: {one_line(problem)}")
    rows = ((f.position, show_time(f.recorded_at), f.recorded_by, f.event) for f in report.facts)
    print_table(("#position", "recorded", "by", "event"), rows, if_empty="")
    witnesses = (f"{name} at {show_time(at)}" for name, at in report.witnesses.items())
    print_facts(
        (
            ("message", report.message_id),
            ("log", f"{report.server}, incarnation {report.incarnation}"),
            ("checkpoint", f"{report.position} events, root {report.root}"),
            ("witnesses", ", ".join(witnesses) or "none whose key was given"),
            ("receipts", report.receipts or None),
            ("recording", report.audio_digest),
            ("proof", "holds" if report.holds else "does NOT hold"),
        )
    )


def backup_verified(
    position: Annotated[int, typer.Option("--position", min=1, help="What the backup covers.")],
    place: Annotated[str, typer.Option("--place", help="Where the backup is.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Record that a finished and verified backup covers the log up to a position.

    From then on this server's receipts call that much safe.
    """
    connect(config, url, token).send(
        "POST", "/v1/log/backups", {"position": position, "place": place}
    )
    print(f"recorded: {place} covers the log up to position {position}")


def acknowledge(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Whose log went back.")],
    reason: Annotated[str, typer.Option("--reason", help="What happened, in your words.")],
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Record that you know why a log went back in time: 'doctor' warns of it no longer."""
    body = {"server": server, "reason": reason}
    connect(config, url, token).send("POST", "/v1/log/acknowledgements", body)
    print(f"recorded: the log of {server} went back because: {reason}")
