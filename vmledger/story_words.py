"""What an event of a message's story says, in one sentence for people.

An event that this program does not know is named by its topic: it is kept, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ledger.caller import CallerState, SeenCaller
from vmledger.cli.output import show_duration, show_size, show_time

Fields: TypeAlias = Mapping[str, Any]


def describe(event: Fields, caller: SeenCaller | None = None) -> str:
    """Say what an event tells; ``event`` is its JSON.

    ``caller`` is who called as far as this server can say, for an event that has it sealed.
    """
    words = _WORDS.get(event["event"])
    try:
        if event["event"] == "call-received":
            return _received(event, caller)
        return words(event) if words is not None else f"an event of a newer program: {event['v']}"
    except (KeyError, TypeError, ValueError):
        # A later version of a known kind, with other fields.
        return f"version {event.get('v')} of {event['event']}, which this program does not know"


def _received(event: Fields, seen: SeenCaller | None) -> str:
    called, status = event["called_extension"], event["status"]
    if seen is None:
        seen = SeenCaller(state=CallerState.SEALED)
    if seen.state is not CallerState.KNOWN:
        return f"a call from {_UNKNOWN[seen.state]} for {called}: {status}"
    caller = seen.caller.number or "a withheld number"
    name = f" ({seen.caller.name})" if seen.caller.name else ""
    via = seen.caller.redirecting_number
    sent_on = f", sent on by {via}" if via else ""
    return f"a call from {caller}{name} for {called}{sent_on}: {status}"


_UNKNOWN: Final = {
    CallerState.ERASED: "somebody who was erased",
    CallerState.SEALED: "somebody whose key is not here",
    CallerState.DAMAGED: "somebody whom the key here does not show",
}


def _decided(event: Fields) -> str:
    if not event["to_voicemail"]:
        return f"handled normally: {event['reason']}"
    text = f"to voicemail, {event['reason']}: mailbox {event['mailbox']} at {event['home']}"
    if not event["is_remote"]:
        return text + ", this server"
    judged = "available" if event["is_reachable"] else "not available"
    return f"{text}, judged {judged}{_evidence(event.get('evidence'))}"


def _evidence(evidence: Fields | None) -> str:
    if evidence is None:
        return ""
    facts = [f"it was {evidence['state']}"]
    if evidence.get("probe"):
        facts.append(f"a probe {_PROBED.get(evidence['probe'], evidence['probe'])}")
    if evidence.get("last_success_at"):
        facts.append(f"last answered {show_time(evidence['last_success_at'])}")
    if evidence.get("consecutive_failures"):
        facts.append(f"{evidence['consecutive_failures']} failures in a row")
    return f" ({', '.join(facts)})"


_PROBED: Final = {"answered": "answered", "refused": "was refused", "timed-out": "timed out"}


def _stored(event: Fields) -> str:
    audio = event["audio"]
    cut = ", cut short by a crash" if event.get("is_recovered") else ""
    return (
        f"stored here: {show_duration(audio['duration_ms'])} long, "
        f"{show_size(audio['size_bytes'])} of {audio['codec']}{cut}; belongs to {event['home']}"
    )


def _migrated(event: Fields) -> str:
    receipt = event["receipt"]
    safe = (
        " and a backup covers it" if receipt["safe_position"] >= receipt["origin_position"] else ""
    )
    return (
        f"{event['home']} has it (position {event['home_position']} there) and gave its signed "
        f"receipt{safe}"
    )


def _refused(event: Fields) -> str:
    return f"{event['home']} does not take it: {event['reason']} ({event['detail']})"


def _delivered(event: Fields) -> str:
    by_itself = event["origin"] == event["recorded_by"]
    whence = "left here" if by_itself else f"from {event['origin']}:{event['origin_position']}"
    return f"in the mailbox {event['mailbox']}, {whence}"


def _failed(event: Fields) -> str:
    attempts, before = event["attempts"], event["attempts_before"]
    which = (
        f"attempt {before + 1}" if attempts == 1 else f"attempts {before + 1}-{before + attempts}"
    )
    since = "" if attempts == 1 else f" since {show_time(event['first_at'])}"
    return f"{which} to reach {event['home']} failed{since}: {event['problem']}"


_WORDS: Final[dict[str, Callable[[Fields], str]]] = {
    "transfer-decided": _decided,
    "call-abandoned": lambda e: f"the call ended without a message: {e['reason']}",
    "recording-set-aside": lambda e: f"a recording that is no message: {e['reason']}",
    "message-stored": _stored,
    "message-migrated": _migrated,
    "migration-refused": _refused,
    "message-requeued": lambda e: f"to be shipped to {e['home']}: {e['reason']}",
    "message-delivered": _delivered,
    "message-rehomed": lambda e: f"the mailbox lives at {e['home']} now; to be shipped there",
    "message-heard": lambda e: f"listened to by {e['by']}",
    "message-saved": lambda e: f"saved by {e['by']}",
    "message-deleted": lambda e: f"moved to the trash by {e['by']}",
    "message-restored": lambda e: f"taken out of the trash by {e['by']}",
    "message-forwarded": lambda e: f"a copy was sent to {e['to_mailbox']} by {e['by']}",
    "message-erased": lambda e: f"erased by {e['by']}: {e['reason']}",
    "attempts-failed": _failed,
    "peer-lost": lambda e: f"{e['evidence']['peer']} is judged down{_evidence(e['evidence'])}",
    "peer-returned": lambda e: f"{e['evidence']['peer']} is back",
}
