"""Is the simulation blind? Deliberate faults in a copy of the program, each of which it must find.

``python -m tests.simulation.mutants`` applies one fault after the other to a copy of the code,
runs schedules until a checker objects, and writes ``docs/reliability-mutants.md``. A fault that
nobody finds is a hole in the tests, and makes it exit with 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("ledger", "projections", "tests")
PAGE = ROOT / "docs" / "reliability-mutants.md"


@dataclass(frozen=True)
class Mutant:
    """A deliberate fault: some text of a file is replaced by other text."""

    name: str
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Finding:
    """Who found a mutant."""

    seed: int
    schedules: int
    words: str


MUTANTS = (
    Mutant(
        "a blob's bytes are not synced",
        "ledger/storage/filesystem_blobs.py",
        "            file.write(data)\n            file.sync()\n",
        "            file.write(data)\n",
    ),
    Mutant(
        "a blob's name is not synced",
        "ledger/storage/filesystem_blobs.py",
        "        # A crash before this sync may take the name away again: nobody was told of the blob "
        "yet.\n        self._files.sync_directory(target.parent)\n",
        "",
    ),
    Mutant(
        "a new folder's name is not synced",
        "ledger/storage/filesystem_blobs.py",
        "            self._files.make_directory(folder)\n",
        "            self._files.exists(folder) or self._files._disk.folders.add(folder)\n",
    ),
    Mutant(
        "a finished recording is not synced",
        "ledger/storage/spool.py",
        "        self.sync()\n        self._close_file()\n        writer",
        "        self._unwritten += self._writer.flush()\n        self._write()\n"
        "        self._close_file()\n        writer",
    ),
    Mutant(
        "a recording's name is not synced",
        "ledger/storage/spool.py",
        "                self._spool.files.sync_directory(self.path.parent)\n",
        "",
    ),
    Mutant(
        "the event is committed before the blob",
        "ledger/server/record_message.py",
        "    await parts.offload(partial(parts.blobs.put_file, spooled.blob_digest, spooled.path))\n"
        "    recording = StoredRecording(",
        "    recording = StoredRecording(",
    ),
    Mutant(
        "the spool is freed before the event",
        "ledger/server/record_message.py",
        "    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)\n    # A crash after",
        "    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)\n"
        "    await parts.offload(partial(parts.spool.discard, spooled.path))\n    # A crash after",
    ),
    Mutant(
        "nothing is recovered",
        "ledger/server/recover_recordings.py",
        "    for interrupted in await parts.offload(partial(parts.spool.interrupted, idle_for_s)):\n",
        "    for interrupted in []:\n",
    ),
    Mutant(
        "an interrupted recording is thrown away",
        "ledger/server/recover_recordings.py",
        "    why_not = _why_not_a_message(state, interrupted.received_bytes_count)\n",
        "    why_not = None\n    return await parts.offload(\n"
        "        partial(parts.spool.discard, interrupted.path)\n    )\n",
    ),
    Mutant(
        "a recording that is recovered twice becomes two messages",
        "ledger/server/recover_recordings.py",
        "    if any(m.blob == interrupted.blob_digest for m in state.messages):\n",
        "    if False:\n",
    ),
    Mutant(
        "a repeated upload becomes a second message",
        "ledger/call.py",
        "    if known is not None:\n        return None\n"
        "    if any(not m.is_recovered for m in state.messages):\n",
        "    if False:\n",
    ),
    Mutant(
        "the home answers before its commit",
        "ledger/migration/home.py",
        "        head = await self._commit(header, assembly, locations, rows)\n",
        "        head = await self._log.head()\n"
        "        self._late = asyncio.create_task(\n"
        "            self._commit(header, assembly, locations, rows)\n        )\n",
    ),
    Mutant(
        "the tracking is not in the transaction of the events",
        "ledger/migration/home.py",
        "                events=events,\n                tracking=tracking,\n",
        "                events=events,\n                tracking=None,\n",
    ),
    Mutant(
        "the tracking is committed before the events",
        "ledger/migration/home.py",
        "        appended = await self._log.append(\n            Append(\n",
        "        if tracking is not None:\n"
        "            await self._log.append(Append(events=(), tracking=tracking))\n"
        "            tracking = None\n"
        "        appended = await self._log.append(\n            Append(\n",
    ),
    Mutant(
        "the home's events come without their blobs",
        "ledger/migration/home.py",
        "        locations = await self._keep_blobs([NewBlob(d, batch.blobs[d]) for d in new])\n",
        "        locations = ()\n",
    ),
    Mutant(
        "the origin trusts its own cursor",
        "ledger/migration/progress.py",
        "        self.acknowledged = min(self.acknowledged, agreed)\n",
        "        self.acknowledged = max(self.acknowledged, agreed)\n",
    ),
    Mutant(
        "the tree hash is not compared",
        "ledger/migration/protocol.py",
        "    if mine.position > own.position or mine.root != own_root:\n",
        "    if mine.position > own.position:\n",
    ),
    Mutant(
        "a log that went back goes on under its old incarnation",
        "ledger/migration/protocol.py",
        "        return Judgement(_I.LOG_WENT_BACK)\n    return",
        "        return Judgement(_I.AGREED, min(mine.position, own.position))\n    return",
    ),
    Mutant(
        "unknown incarnations are ignored",
        "ledger/migration/protocol.py",
        "    if strangers:\n",
        "    if False:\n",
    ),
    Mutant(
        "an old incarnation's batches are taken in",
        "ledger/migration/protocol.py",
        "    if rows[0].incarnation != header.incarnation:\n"
        "        return BatchRelation.SUPERSEDED\n",
        "",
    ),
    Mutant(
        "a gap is skipped",
        "ledger/migration/protocol.py",
        "    if header.after_position > known.position:\n        return BatchRelation.AHEAD\n",
        "",
    ),
    Mutant(
        "a duplicate is delivered again",
        "ledger/migration/assembly.py",
        "        is_delivered = message is not None and bool(self._held.get(message.message_id))\n",
        "        is_delivered = False\n",
    ),
    Mutant(
        "a conflict is overwritten in silence",
        "ledger/migration/assembly.py",
        "            elif known != foreign.plain:\n",
        "            elif False:\n",
    ),
    Mutant(
        "custody is given up when a batch is sent",
        "ledger/migration/origin.py",
        "        draft, task = self._in_flight[0]\n        try:\n",
        "        draft, task = self._in_flight[0]\n"
        "        self._builder.restart(draft.incarnation, after=draft.through, "
        "known_until=draft.through, seen_until=0)\n"
        "        self._progress.acknowledged = draft.through\n"
        "        self._judgement = Judgement(_I.AGREED, draft.through)\n"
        "        self._progress.resume = lambda *_: draft.through\n        try:\n",
    ),
    Mutant(
        "a receipt is not checked",
        "ledger/migration/origin.py",
        "        await self._check_receipt(answer.receipt, draft)\n",
        "",
    ),
    Mutant(
        "a refused message counts as arrived",
        "ledger/migration/origin.py",
        "    if refusal is None:\n        return Outcome",
        "    if True:\n        return Outcome",
    ),
    Mutant(
        "receipts are not recorded",
        "ledger/migration/origin.py",
        "        await self._parts.settlement.record(outcomes)\n",
        "",
    ),
    Mutant(
        "a full disk ends the worker",
        "ledger/migration/origin.py",
        "        except Exception as error:  # noqa: BLE001  (a worker that ends ships nothing)\n"
        "            return self._classify(error)\n",
        "        except (BusyError, UnreachableError, PeerError) as error:\n"
        "            return self._classify(error)\n",
    ),
    Mutant(
        "a cursor that cannot be saved ends the worker",
        "ledger/migration/progress.py",
        "            await self._offload(partial(self._cursors.save, cursor))\n"
        "        except LedgerError as error:\n",
        "            await self._offload(partial(self._cursors.save, cursor))\n"
        "        except KeyError as error:\n",
    ),
    Mutant(
        "idle peers are not asked",
        "ledger/migration/origin.py",
        "        return await self._signalled(wanted, self._parts.settings.probe_interval_s)\n",
        "        return await self._signalled(wanted, 1e9)\n",
    ),
    Mutant(
        "a failed attempt is never repeated",
        "ledger/migration/origin.py",
        "        left_s = self._progress.pause_s - least_s\n",
        "        left_s = 1e9\n",
    ),
    Mutant(
        "pauses are skipped",
        "ledger/migration/progress.py",
        "        self.pause_s = self._rng.uniform(0, min(ceiling_s, "
        "self._settings.backoff_max_s))\n",
        "        self.pause_s = 0.0\n",
    ),
    Mutant(
        "moved mailboxes are not followed at the start",
        "ledger/migration/deliveries.py",
        "                await self._requeue_moved()\n",
        "                pass\n",
    ),
    Mutant(
        "a refused message does not follow its mailbox",
        "ledger/migration/settlement.py",
        "    if home is not None and home != outcome.home:\n",
        "    if False:\n",
    ),
    Mutant(
        "a moved message is sent on before its old home was asked",
        "ledger/migration/deliveries.py",
        "        return message.refused or message.home not in self._workers\n",
        "        return True\n",
    ),
    Mutant(
        "a home refuses what it has, once the mailbox moved",
        "ledger/migration/assembly.py",
        "        if parcel.unless_held is not None and not is_delivered:\n",
        "        if parcel.unless_held is not None:\n",
    ),
    Mutant(
        "a home that lost a message is not believed",
        "ledger/migration/settlement.py",
        "            return event.home != outcome.home\n        if isinstance(event, Mig",
        "            return True\n        if isinstance(event, Mig",
    ),
    Mutant(
        "a refusal drops the message",
        "ledger/migration/settlement.py",
        "    writer.add(\n        MigrationRefused,\n",
        "    return\n    writer.add(\n        MigrationRefused,\n",
    ),
    Mutant(
        "blobs are not compared with their digests on arrival",
        "ledger/migration/wire.py",
        "        if hashlib.sha256(blob).hexdigest() != entry.digest:\n",
        "        if False:\n",
    ),
    Mutant(
        "the recording is not compared with its event",
        "ledger/migration/examination.py",
        "    if hashlib.sha256(received).hexdigest() != facts.digest:\n",
        "    if False:\n",
    ),
    Mutant(
        "rotten audio is read as if it were whole",
        "ledger/storage/blob_store.py",
        "    if found != digest:\n        raise",
        "    if False:\n        raise",
    ),
    Mutant(
        "foreign events are encoded anew",
        "ledger/migration/examination.py",
        "            state=self.plain,\n",
        "            state=self.plain + b' ',\n",
    ),
    Mutant(
        "what a user does to a waiting message stays behind",
        "ledger/migration/audience.py",
        "    return destination if is_in_call_stream and destination != event.recorded_by else None\n",
        "    return None\n",
    ),
    Mutant(
        "two servers with one name go on side by side",
        "ledger/migration/protocol.py",
        "        verdict = _I.CLONE_SEEN if is_live else _I.LOG_WENT_BACK\n",
        "        verdict = _I.LOG_WENT_BACK\n",
    ),
    Mutant(
        "a batch out of turn is answered with a receipt",
        "ledger/migration/home.py",
        "                if action not in (HomeAction.TAKE_IN, HomeAction.LOOK_AGAIN):\n",
        "                if False:\n",
    ),
    Mutant(
        "positions are compared, incarnations are not",
        "ledger/migration/protocol.py",
        "    return next((row for row in rows if row.incarnation == incarnation), None)\n",
        "    return rows[0] if rows else None\n",
    ),
)


def apply(mutant: Mutant, root: Path) -> None:
    """Put the fault into a copy of the code; a text that is not there is an error."""
    path = root / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"mutant {mutant.name!r} is stale: its text stands {text.count(mutant.old)} times "
            f"in {mutant.file}; write it anew"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


def hunt(mutant: Mutant, most: int) -> Finding | None:
    """Run the mutant until a checker objects; None when none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        for name in COPIED:
            shutil.copytree(
                ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__")
            )
        apply(mutant, Path(folder))
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--until-failure", f"--schedules={most}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode not in (0, 1) or not last:
        raise SystemExit(f"mutant {mutant.name!r} does not run: {done.stderr[-2000:]}")
    found = json.loads(last[0])
    return Finding(**found) if found else None


def write_page(found: dict[str, Finding | None]) -> None:
    """Write the table."""
    lines = [
        "# Deliberate faults",
        "",
        "Each row is a fault put into a copy of the program. The simulation runs schedule after",
        "schedule, from seed 0 on, until a checker objects. `python -m tests.simulation.mutants`",
        "runs them all and writes this page.",
        "",
        "| fault | found after | by the checker |",
        "|---|---|---|",
    ]
    for name, finding in found.items():
        if finding is None:
            lines.append(f"| {name} | **not found** | |")
        else:
            checker = finding.words.partition(":")[0]
            lines.append(f"| {name} | {finding.schedules} schedules | {checker} |")
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--schedules", type=int, default=4000, help="most for one mutant")
    parser.add_argument("--only", help="those whose name contains this")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if asked.only is None or asked.only in m.name]
    found: dict[str, Finding | None] = {}
    for mutant in chosen:
        finding = found[mutant.name] = hunt(mutant, asked.schedules)
        told = f"seed {finding.seed}: {finding.words[:110]}" if finding else "NOT FOUND"
        print(f"{mutant.name:60} {told}", flush=True)
    if asked.only is None:
        write_page(found)
    survivors = [name for name, finding in found.items() if finding is None]
    print(f"{len(found) - len(survivors)} of {len(found)} found")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
