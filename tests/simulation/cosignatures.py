"""What witnesses signed, and whether they noticed what they should have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    parse_checkpoint,
    read_log_name,
    witness_key,
)
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint
from tests.simulation.logs import event_of

if TYPE_CHECKING:
    from tests.simulation.world import World


def witnesses_signed_what_was(world: World) -> Iterator[str]:
    """Each co-signed checkpoint is signed by both, and is of a log that there was."""
    for name, machine in world.machines.items():
        for row in machine.checkpoints.all():
            note, checkpoint = parse_checkpoint(row.note)
            server, incarnation = read_log_name(row.log)
            log, witness = world.all_machines[server], world.all_machines[row.witness]
            if not note.is_signed_by(
                log_key(server, incarnation, log.identity.public_key), machine.verify
            ):
                yield f"{name} keeps a checkpoint that {server} did not sign"
            key = witness_key(row.witness, witness.identity.public_key)
            if cosigned_at(note, key, machine.verify) is None:
                yield f"{name} keeps a checkpoint that {row.witness} did not sign"
            if not any(_is_of(image, checkpoint) for image in world.logs_of(server)):
                yield f"{row.witness} signed what was never the log of {server}"


def no_history_changes_unseen(world: World) -> Iterator[str]:
    """Who signed two histories of a server has recorded that there are two."""
    for name, machine in world.machines.items():
        if world.told.went_back(name):
            continue  # it may have forgotten what it recorded
        seen = {
            event_of(entry).incarnation
            for entry in machine.image.entries
            if entry.topic == "fork-witnessed" and entry.origin is None
        }
        by_server: dict[str, list[CosignedCheckpoint]] = {}
        for row in machine.checkpoints.all():
            if row.witness == name:
                by_server.setdefault(read_log_name(row.log)[0], []).append(row)
        for server, rows in by_server.items():
            image = world.all_machines[server].image
            noted = [(_incarnation(row), parse_checkpoint(row.note)[1]) for row in rows]
            lost = [(i, c.size) for i, c in noted if not _is_of(image, c)]
            present = [
                (i, c.size) for i, c in noted if i == image.head.incarnation and _is_of(image, c)
            ]
            has_signed_both = any(
                here != gone or size > lost_size
                for gone, lost_size in lost
                for here, size in present
            )
            if has_signed_both and not any(i in seen for i, _ in noted):
                yield f"{name} signed two histories of {server} and recorded no fork"


def _incarnation(row: CosignedCheckpoint) -> UUID:
    return read_log_name(row.log)[1]


def _is_of(image: Any, checkpoint: Checkpoint) -> bool:
    return (
        checkpoint.size < len(image.frontiers)
        and image.frontiers[checkpoint.size].root() == checkpoint.root
    )
