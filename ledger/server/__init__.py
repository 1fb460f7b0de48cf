"""The use cases of one server: take a call, store its message, ship it, receive others'.

Source: claims 1-8.
"""

from ledger.server.act_on_message import NotInCustodyError
from ledger.server.change_mailbox import NotHomeError
from ledger.server.erasure import Erased, Erasing
from ledger.server.parts import Deliveries, ReachabilityJudge, ServerParts
from ledger.server.pin_guesses import PinLockedError
from ledger.server.record_message import TooLargeError
from ledger.server.retention import Due
from ledger.server.voicemail_server import VoicemailServer
from ledger.telephony.switch import CallDecision, CallReport, StoredMessage

__all__ = [
    "CallDecision",
    "CallReport",
    "Deliveries",
    "Due",
    "Erased",
    "Erasing",
    "NotHomeError",
    "NotInCustodyError",
    "PinLockedError",
    "ReachabilityJudge",
    "ServerParts",
    "StoredMessage",
    "TooLargeError",
    "VoicemailServer",
]
