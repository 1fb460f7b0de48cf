"""Ask the demonstration's servers what they hold, and check every promise against it.

While the servers run, their own answers and logs are asked; after they have stopped, every log is
replayed from its first event.

Source: claims 5, 7 and 8.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ledger.configuration import Configuration
from ledger.errors import LedgerError
from ledger.events import Receipt
from ledger.migration.receipts import verify_receipt
from projections.replay import mailboxes_digest, projected_mailboxes_digest
from vmledger.demo.narrator import Narrator
from vmledger.demo.processes import DemoError, ServerProcess, Servers, message_at
from vmledger.demo.report import DemoReport, MessageReport, Path
from vmledger.demo.story import BRAVO, Story, TakenMessage
from vmledger.stores import open_log, open_read_models
from vmledger.verification import verify_log

_PAGE: Final = 500

Log = list[dict[str, Any]]
"""A server's log as its HTTP API gives it."""


@dataclass(frozen=True)
class Evidence:
    """What the running servers said."""

    messages: list[MessageReport]
    handled_normally: int
    pending_while_down: int
    duplicates: int
    in_order: bool


def gather(story: Story) -> Evidence:
    """Ask the running servers; says what it finds."""
    say = story.narrator
    say.step("Now the evidence: what left the callers' mouths against what the homes hold.")
    logs = {server_id: _read_log(server) for server_id, server in story.servers.items()}
    messages = [_report(message, story.servers, logs) for message in story.taken]
    for message in messages:
        same = "same bytes" if message.digest_sent == message.digest_at_home else "OTHER BYTES"
        proof = "receipt verifies" if message.receipt_ok else "NO VALID RECEIPT"
        if message.path is Path.STORED_HERE:
            proof = "in custody of its home from the start" if message.receipt_ok else "NOT KEPT"
        say.result(f"{str(message.message_id)[-12:]}  {message.path.value:<18}  {same}, {proof}")
    evidence = Evidence(
        messages=messages,
        handled_normally=_handled_normally(logs),
        pending_while_down=story.pending_while_down,
        duplicates=_duplicates(story, logs),
        in_order=_is_in_order(logs),
    )
    say.result(f"doubled: {evidence.duplicates}; in order: {_yes(evidence.in_order)}")
    return evidence


def audit_stores(evidence: Evidence, servers: Servers, narrator: Narrator) -> DemoReport:
    """Replay the stopped servers' logs from nothing, and put the report together."""
    narrator.step("The servers have stopped. Every log is verified and replayed from nothing.")
    verified, equal = True, True
    for server in servers.values():
        is_verified, is_equal = _audit(server.config)
        narrator.result(
            f"{server.id}: log {'verified' if is_verified else 'DAMAGED'}, "
            f"replayed mailboxes {'equal' if is_equal else 'DIFFER'}"
        )
        verified, equal = verified and is_verified, equal and is_equal
    return DemoReport(
        messages=evidence.messages,
        handled_normally=evidence.handled_normally,
        pending_while_down=evidence.pending_while_down,
        duplicates=evidence.duplicates,
        in_order=evidence.in_order,
        logs_verified=verified,
        replay_equal=equal,
        broken_promises=_broken(evidence, is_verified=verified, is_equal=equal),
        duration_s=round(narrator.elapsed_s(), 3),
    )


def _audit(config: Configuration) -> tuple[bool, bool]:
    with open_log(config) as log, open_read_models(config, log) as models:
        verification = verify_log(log)
        # The server has stopped, and it may have stopped before its read models had seen the end.
        models.runner.catch_up()
        served, position = projected_mailboxes_digest(models.store)
        replayed = mailboxes_digest(log, config.server)
    return verification.is_intact, (served, position) == (replayed, verification.position)


def _read_log(server: ServerProcess) -> Log:
    entries: Log = []
    while True:
        page = server.api.get("/v1/log", **{"from": len(entries) + 1, "limit": _PAGE})["entries"]
        entries += page
        if len(page) < _PAGE:
            return entries


def _report(message: TakenMessage, servers: Servers, logs: Mapping[str, Log]) -> MessageReport:
    home = servers[message.home]
    found = message_at(home, message.id)
    if found is None:
        raise DemoError(f"message {message.id} is not at its home {message.home}")
    sound = _sound(home, found)
    is_own = message.origin == message.home
    return MessageReport(
        message_id=found["message_id"],
        call_id=message.answer["call_id"],
        origin=message.origin,
        home=message.home,
        path=_path(message),
        digest_sent=message.digest_sent,
        digest_at_home=hashlib.sha256(sound).hexdigest(),
        receipt_ok=(
            _is_kept_by_one_commit(message, logs[message.home])
            if is_own
            else _has_receipt(message, servers[message.origin].config, logs[message.origin])
        ),
        stored_at=message.answer["stored_at"],
        delivered_at=found["delivered_at"],
    )


def _path(message: TakenMessage) -> Path:
    if message.origin == message.home:
        return Path.STORED_HERE
    return Path.HELD_THEN_MIGRATED if message.is_held else Path.SENT


def _sound(home: ServerProcess, found: Mapping[str, Any]) -> bytes:
    extension, _, context = str(found["mailbox"]).partition("@")
    path = f"/v1/mailboxes/{extension}/messages/{found['message_id']}/audio?context={context}"
    return home.api.request("GET", path, headers={"Accept": "audio/original"}).body


def _of_kind(log: Log, topic: str, message_id: str) -> list[dict[str, Any]]:
    return [e for e in log if e["topic"] == topic and e["event"].get("message_id") == message_id]


def _has_receipt(message: TakenMessage, origin: Configuration, log: Log) -> bool:
    """Does the origin hold the home's valid signature for this very message?"""
    stored = _of_kind(log, "message-stored", message.id)
    migrated = _of_kind(log, "message-migrated", message.id)
    if len(stored) != 1 or len(migrated) != 1:
        return False
    receipt = msgspec.convert(migrated[0]["event"]["receipt"], Receipt)
    try:
        verify_receipt(receipt, origin.directory.servers[message.home].public_key)
    except LedgerError:
        return False
    return (receipt.origin, receipt.home) == (
        message.origin,
        message.home,
    ) and receipt.origin_position >= stored[0]["position"]


def _is_kept_by_one_commit(message: TakenMessage, log: Log) -> bool:
    """Did its home store and deliver it by neighbouring events of its own?"""
    stored = _of_kind(log, "message-stored", message.id)
    delivered = _of_kind(log, "message-delivered", message.id)
    return (
        len(stored) == len(delivered) == 1
        and stored[0]["position"] + 1 == delivered[0]["position"]
        and stored[0]["origin"] is delivered[0]["origin"] is None
    )


def _handled_normally(logs: Mapping[str, Log]) -> int:
    return sum(
        entry["topic"] == "transfer-decided"
        and entry["origin"] is None
        and not entry["event"]["to_voicemail"]
        for log in logs.values()
        for entry in log
    )


def _duplicates(story: Story, logs: Mapping[str, Log]) -> int:
    """Count deliveries beyond one a message, in all logs, and mailbox entries beyond one."""
    deliveries = Counter(
        entry["event"]["message_id"]
        for log in logs.values()
        for entry in log
        if entry["topic"] == "message-delivered"
    )
    listed = Counter(
        entry["message_id"]
        for server_id, mailbox in {(m.home, m.answer["mailbox"]) for m in story.taken}
        for entry in _mailbox(story.servers[server_id], mailbox)
    )
    return sum((deliveries - Counter(set(deliveries))).values()) + sum(
        (listed - Counter(set(listed))).values()
    )


def _mailbox(server: ServerProcess, mailbox: str) -> list[dict[str, Any]]:
    extension, _, context = mailbox.partition("@")
    found: list[dict[str, Any]] = server.api.get(
        f"/v1/mailboxes/{extension}", context=context, limit=_PAGE
    )["messages"]
    return found


def _is_in_order(logs: Mapping[str, Log]) -> bool:
    """Did bravo take in each origin's messages in the order of the origin's log?"""
    return all(
        [
            entry["event"]["message_id"]
            for entry in log
            if entry["topic"] == "message-stored" and entry["event"]["home"] == BRAVO
        ]
        == [
            entry["event"]["message_id"]
            for entry in logs[BRAVO]
            if entry["topic"] == "message-delivered" and entry["event"]["origin"] == origin
        ]
        for origin, log in logs.items()
        if origin != BRAVO
    )


def _broken(evidence: Evidence, *, is_verified: bool, is_equal: bool) -> list[str]:
    """Name every promise that did not hold."""
    held = sum(m.path is Path.HELD_THEN_MIGRATED for m in evidence.messages)
    promises = {
        "every message has its bytes at its home": all(
            m.digest_sent == m.digest_at_home for m in evidence.messages
        ),
        "every message is delivered": all(m.delivered_at for m in evidence.messages),
        "every message has a valid receipt": all(m.receipt_ok for m in evidence.messages),
        "no message is doubled": evidence.duplicates == 0,
        "messages arrive in order": evidence.in_order,
        "messages were sent, stored here and held": {m.path for m in evidence.messages}
        == set(Path),
        "what waited was shown": evidence.pending_while_down == held >= 3,
        "one call was handled normally": evidence.handled_normally == 1,
        "every log verifies": is_verified,
        "replay equals what was served": is_equal,
    }
    return [f"not true: {promise}" for promise, is_kept in promises.items() if not is_kept]


def _yes(claim: bool) -> str:
    return "yes" if claim else "NO"
