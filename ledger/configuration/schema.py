"""Every key of ``vmledger.toml``, documented where it is declared.

One struct a table. The docstrings below are the documentation: the reference page, the comments in
a fresh configuration file and the advice in error messages are made from them. What one field alone
cannot say (two servers with one id, a file that is not there) is checked elsewhere in this package.

There is one source of configuration, this file: no environment variable changes a key, so that
what a server does can be read in one place.

In paths and store URLs ``{data}`` stands for the data directory, and a relative path is relative to
the configuration file.

Source: claims 6 and 13.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from ledger.call_status import DEFAULT_VOICEMAIL
from ledger.events import CallStatus

ServerName: TypeAlias = Annotated[str, Meta(pattern=r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
"""A host-name label, because it also stands in the server's certificate."""
ContextName: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_.-]{1,64}\Z")]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
Bytes: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 40)]

MIB: Final = 1 << 20


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Listen(Section, frozen=True, kw_only=True):
    """Where this server listens. Each is ``host:port``; an IPv6 address stands in brackets."""

    api: str = "127.0.0.1:8025"
    """The HTTP API for switches, people and the command line."""
    replication: str = "0.0.0.0:8026"
    """The listener for the other servers: always TLS, and only for the servers named in this
    file."""
    api_certificate: str | None = None
    """PEM file with the certificate chain of the HTTP API. Without it the API speaks plain HTTP:
    right on loopback or behind a proxy that ends TLS."""
    api_key: str | None = None
    """PEM file with the private key that belongs to ``api_certificate``."""


class Store(Section, frozen=True, kw_only=True):
    """Where this server keeps what it must not lose, and what it derives from that."""

    events: str = "sqlite:///{data}/ledger.sqlite"
    """The log: ``sqlite:///PATH`` or ``postgresql://…``. A password for PostgreSQL belongs into a
    ``.pgpass`` file, not here."""
    projections: str | None = None
    """The read models, which can be rebuilt at any time. When not given: beside a SQLite log in
    ``{data}/projections.sqlite``; for a PostgreSQL log the same database."""
    blobs: str = "file://{data}/blobs"
    """The recordings: ``file:///PATH`` or ``s3://BUCKET/PREFIX``."""


class Identity(Section, frozen=True, kw_only=True):
    """The files that prove who this server is, and the one that opens what it keeps.

    `vmledger init` makes them; back them up, apart from the backups of the log and the recordings.
    """

    signing_key: str = "{data}/server.key"
    """Ed25519 private key (PEM, mode 0600) that signs receipts and requests."""
    tls_key: str = "{data}/tls.key"
    """Private key (PEM, mode 0600) of the replication listener and client."""
    tls_certificate: str = "{data}/tls.crt"
    """Self-signed certificate that belongs to ``tls_key``. The other servers need a copy."""
    master_key: str = "{data}/master.key"
    """Master key (mode 0600) that wraps the keys of all messages kept here. Without it, nobody can
    read what is sealed; it never leaves this server."""
    master_key_command: tuple[str, ...] = ()
    """A program and its arguments that print the master key, instead of ``master_key``: it asks a
    key-management service, or decrypts a file. It prints what `vmledger init` wrote into
    ``master.key``, and is run at each start, without a shell and with ``{data}`` filled in."""


class Server(Section, frozen=True, kw_only=True):
    """A server of the company: this one too. The same list stands in every server's file.

    Of all claims that cover an extension the narrowest wins: one extension before a range, a small
    range before a big one, a long prefix before a short one. Two servers whose claims overlap with
    neither lying within the other are refused.
    """

    id: ServerName
    """Its name: lower-case letters, digits and hyphens. Never changes, because events name it."""
    url: str
    """Where the other servers reach its replication listener: ``https://HOST:PORT``."""
    public_key: str
    """Base64 of its Ed25519 public key; `vmledger config peers` prints it on that server."""
    certificate: str | None = None
    """PEM file with a copy of its TLS certificate. No other certificate is accepted from it.
    Needed for every server but this one."""
    extensions: tuple[str, ...] = ()
    """The mailboxes that live there: one extension ``4711``, a range ``2000-2999``, a prefix
    ``30*``, or ``*`` for all that nobody else claims. ``30*@sales`` names another context."""
    context: ContextName = "default"
    """The context (tenant, dial plan) of ``extensions`` that name none themselves: letters, digits
    and ``_ . -``."""
    mirrors: tuple[ServerName, ...] = ()
    """Other servers of this list that keep a whole copy of its log and recordings, so that it can
    be rebuilt when its disk is lost. They hear everything that its disk holds. It must stand in
    the file of this server, which gives, and in the file of the mirror, which asks."""
    max_send_bytes_per_s: Annotated[int, Meta(ge=1024, le=1 << 40)] | None = None
    """Most bytes a second that this server sends there, on average over some seconds: messages and
    their events, not the small questions beside them. When not given: as fast as the line is."""
    send_hours: tuple[str, ...] = ()
    """Other limits at some hours: ``"08:00-18:00 65536"``, ``"22:00-06:00 10000000"``. The first
    that fits counts; the hours are those of `[replication] time_zone`."""


class Calls(Section, frozen=True, kw_only=True):
    """What this server takes as a message. `[[mailboxes]]` makes exceptions."""

    voicemail_for: tuple[CallStatus, ...] = tuple(s for s in CallStatus if s in DEFAULT_VOICEMAIL)
    """The statuses of a call that take a message; all others are handled normally. ``answered``
    and ``abandoned`` are refused here: nobody is left on the line to speak."""
    min_message_duration_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    """A shorter recording is no message; its bytes are set aside, not thrown away."""
    max_message_duration_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    """A longer recording is no message; its bytes are set aside, not thrown away."""
    max_upload_bytes: Bytes = 64 * MIB
    """Where the server stops reading a recording. What it has read is set aside."""
    recording_grace_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    """How long an upload may be interrupted before what has arrived becomes a message."""


Days: TypeAlias = Annotated[float, Meta(ge=0, le=36_500)]


class Mailboxes(Section, frozen=True, kw_only=True):
    """An exception to `[calls]` and `[retention]` for some mailboxes. A key not given is as there.

    The narrowest claim wins, as for servers.
    """

    extensions: tuple[str, ...]
    """The mailboxes, written as the extensions of a server."""
    context: ContextName = "default"
    """The context of ``extensions`` that name none themselves."""
    voicemail_for: tuple[CallStatus, ...] | None = None
    """As in `[calls]`; ``[]`` takes no messages at all."""
    min_message_duration_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    """As in `[calls]`."""
    max_message_duration_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """As in `[calls]`."""
    trash_after_days: Days | None = None
    """As in `[retention]`."""
    erase_trash_after_days: Days | None = None
    """As in `[retention]`."""


class Profiles(Section, frozen=True, kw_only=True):
    """What the owner of a mailbox may record and choose for it."""

    max_greeting_duration_s: Annotated[float, Meta(gt=0, le=3600)] = 180.0
    """A longer greeting is refused."""
    max_greeting_bytes: Annotated[int, Meta(ge=1, le=64 * MIB)] = 16 * MIB
    """A larger greeting is refused. Every server keeps a copy of each greeting."""
    min_pin_digits: Annotated[int, Meta(ge=4, le=16)] = 4
    """The shortest PIN that is taken; 16 digits are the most. PINs that are set already stay."""


class Replication(Section, frozen=True, kw_only=True):
    """How messages travel to their homes. The defaults suit a WAN with some hundred ms."""

    probe_interval_s: Seconds = 5.0
    """How often an idle server is asked whether it is there."""
    fresh_for_s: Seconds = 10.0
    """How long the last exchange with a server is proof enough that it is there; after that a call
    for it makes a probe."""
    deadline_s: Seconds = 1.5
    """How long a caller waits at most for the judgement about a server, and then for its
    acknowledgement. A wrong "down" only means that the message is shipped a little later."""
    connect_timeout_s: Seconds = 5.0
    """How long a connection to a server may take."""
    request_timeout_s: Seconds = 60.0
    """How long one batch may take, from its first byte to the answer."""
    batch_max_messages: Count = 256
    """Most messages in one request. Each request costs a few syncs at either end, however many
    messages it holds: 256 of 20 KB travel a good deal faster than four times 64."""
    batch_max_bytes: Annotated[int, Meta(ge=64 * 1024, le=1 << 30)] = 8 * MIB
    """Most bytes in one request. A single message that is larger travels alone."""
    in_flight: Annotated[int, Meta(ge=1, le=16)] = 4
    """Requests on their way to one server at a time: while it takes in one, others are read from
    disk, signed and sent. No more than half of the other server's ``concurrent_batches`` is of
    use."""
    backoff_min_s: Seconds = 1.0
    """Longest wait after the first failure. It doubles with each further one; the wait is drawn
    at random below it, so that a returning server is not met by all at once."""
    backoff_max_s: Seconds = 60.0
    """Longest wait between two attempts. The server never gives up."""
    down_after_failures: Count = 3
    """Failures in a row after which a server is called down; before that it is suspect."""
    up_after_successes: Count = 1
    """Successes in a row after which a server that was down is called up."""
    time_zone: str = "UTC"
    """Whose hours are meant by the servers' ``send_hours``: a name like ``Europe/Berlin``."""
    alarm_pending_age_s: Annotated[float, Meta(gt=0, le=31_536_000)] = 3600.0
    """A message that waits longer for its home raises an alarm."""
    alarm_held_age_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 3600.0
    """A message that its home has refused, and about which nobody has decided for longer, raises
    an alarm."""


class Retention(Section, frozen=True, kw_only=True):
    """How long recordings are kept where they are not needed any more. Events are kept for ever."""

    keep_audio_days_after_delivery: Annotated[float, Meta(ge=0, le=36_500)] = 30.0
    """How long this server keeps the audio of a message after its home has acknowledged it, unless
    the home says earlier that a verified backup covers it."""
    gc_min_age_s: Annotated[float, Meta(ge=60, le=31_536_000)] = 86_400.0
    """Younger files are never collected: they may belong to a message that is just being stored."""
    trash_after_days: Days = 0.0
    """``vmledger retention run`` moves messages to the trash to which nothing was done for so long,
    also unheard ones; never saved ones. 0: never."""
    erase_trash_after_days: Days = 0.0
    """``vmledger retention run`` erases messages for good that have been in the trash for so long.
    0: never."""


class Limits(Section, frozen=True, kw_only=True):
    """Bounds that keep one burst from taking the whole machine."""

    concurrent_uploads: Count = 500
    """Recordings received at a time; further ones are asked to try again."""
    concurrent_batches: Count = 8
    """Batches of other servers taken in at a time, and half as many of one server. Further ones
    wait in line for some seconds, the servers by turns, and are then asked to try again."""
    min_free_disk_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 64 * MIB
    """With less free space no new recording is begun, so that running ones can finish and the log
    can go on. A recording that says how long it is has to fit in above this."""
    min_free_disk_for_batches_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 256 * MIB
    """With less free space batches of other servers are asked to come back later, for they keep
    their copy, and no read model is rebuilt: calls that arrive here have nowhere else to go.
    Never less than ``min_free_disk_bytes``."""
    log_reserve_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 16 * MIB
    """Size of a file beside a SQLite log that is given up piece by piece when the disk is full, so
    that events can still be recorded and messages shipped; made whole again by itself. 0: none."""
    api_connections: Count = 1000
    """Connections to the HTTP API at a time. A new client is let in all the same, and of the
    address with the most connections the one that was silent the longest is ended."""
    replication_connections: Count = 500
    """The same for the replication listener. A server keeps a few connections to each other."""
    head_timeout_s: Seconds = 10.0
    """How long a client may take to say what it wants: from connecting, or from the first byte of
    a further request, to the end of the headers."""
    body_timeout_s: Seconds = 30.0
    """How long a body may stand still. After this time it must also have come at 250 bytes a
    second on average, which is far below any recording that is sent while it is spoken."""
    shutdown_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """How long running uploads may take to finish when the server is told to stop."""


class ConfigurationFile(Section, frozen=True, kw_only=True):
    """The keys above all tables, and the tables."""

    server: ServerName
    """Which of `[[servers]]` this one is."""
    data: str = "data"
    """Directory of everything that this server writes."""
    listen: Listen = Listen()
    store: Store = Store()
    identity: Identity = Identity()
    servers: tuple[Server | None, ...] = ()  # None only while reading: an entry with problems
    calls: Calls = Calls()
    mailboxes: tuple[Mailboxes | None, ...] = ()
    profiles: Profiles = Profiles()
    replication: Replication = Replication()
    retention: Retention = Retention()
    limits: Limits = Limits()
