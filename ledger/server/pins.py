"""Change and check a mailbox's PIN.

The home changes it; every server has what it is checked against, and checks it also while the home
is down. The PIN itself is nowhere: not in an event, a log line, an error or a file.

Source: claims 9 and 10.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ledger import mailbox as mailboxes
from ledger import pin as pins
from ledger.errors import NotFoundError
from ledger.events import PinChanged
from ledger.ids import MailboxAddress
from ledger.mailbox import StoredVerifier
from ledger.server.change_mailbox import change_mailbox, keep_blob, own_mailbox
from ledger.server.parts import ServerParts
from ledger.storage.stored_form import decode as decode_stored_form

VERIFIER_TYPE: Final = "application/json"


async def change_pin(parts: ServerParts, mailbox: MailboxAddress, pin: str | None, by: str) -> None:
    """Give the mailbox another PIN, or none; durable on return, and on its way to every server.

    Raises UnfitPinError for a PIN that is not taken, NotFoundError or NotHomeError.
    """
    await own_mailbox(parts, mailbox)
    verifier = await _keep_verifier(parts, mailbox, pin) if pin is not None else None
    await change_mailbox(
        parts, mailbox, lambda now, *where: mailboxes.change_pin(now, verifier, by, *where)
    )


async def _keep_verifier(parts: ServerParts, mailbox: MailboxAddress, pin: str) -> StoredVerifier:
    least = parts.config.profiles.min_pin_digits
    pins.check_fitness(pin, mailbox.extension, min_digits=least)
    document = await parts.offload(
        partial(pins.make_verifier, pin, parts.random_bytes, parts.pin_cost)
    )
    return StoredVerifier(*await keep_blob(parts, mailbox, document, VERIFIER_TYPE))


async def check_pin(parts: ServerParts, mailbox: MailboxAddress, pin: str) -> bool:
    """Is this the mailbox's PIN, as far as this server knows?

    Raises NotFoundError when it has none or its verifier is not here, CorruptionError when that is
    damaged. Slow on purpose; who asks must be counted (`PinGuesses`).
    """
    changed = (await parts.mailboxes.get(mailbox)).pin
    if changed is None:
        raise NotFoundError(f"mailbox {mailbox} has no PIN; set one at its home first")
    return await _matches(parts, changed, pin)


async def _matches(parts: ServerParts, changed: PinChanged, pin: str) -> bool:
    assert changed.verifier is not None, "a state's pin has one"
    blob, place = changed.verifier, f"blob {changed.verifier}"
    location = (await parts.log.locate_blobs([blob])).get(blob)

    def look() -> bool:
        document = decode_stored_form(parts.blobs.get(blob, location), place=place)
        return pins.matches(pins.read_verifier(document, place), pin)

    return await parts.blob_offload(look)
