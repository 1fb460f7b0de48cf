"""What monitoring counts: one registry an application, nothing shared by a process.

Counters grow where things happen; gauges are read when somebody asks.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from ledger.errors import NoRoomError, TransientError
from vmledger.connections import Shed


class Measures:
    """All metrics of one server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        ProcessCollector(registry=registry)
        self.shed = Counter(
            "vmledger_shed",
            "Requests and connections turned away to keep the others going, by place and reason.",
            ["place", "reason"],
            registry=registry,
        )
        self.calls = Counter(
            "vmledger_calls",
            "Calls reported by a switch, by what was decided.",
            ["transfer", "reason"],
            registry=registry,
        )
        self.messages = Counter(
            "vmledger_messages_stored",
            "Recordings that became durable messages, by where they are held.",
            ["custody"],
            registry=registry,
        )
        self.recordings_refused = Counter(
            "vmledger_recordings_refused",
            "Recordings that did not become a message, by the kind of error.",
            ["kind"],
            registry=registry,
        )
        self.recording_seconds = Histogram(
            "vmledger_recording_commit_seconds",
            "From the last byte of a recording to the durable answer.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=registry,
        )
        self.log_position = self._gauge("log_position", "Position of the last event of the log.")
        self.pending_messages = self._gauge(
            "pending_messages", "Messages that wait here for their home.", "home"
        )
        self.pending_bytes = self._gauge("pending_bytes", "Their size as stored.", "home")
        self.pending_oldest_age = self._gauge(
            "pending_oldest_age_seconds", "Age of the oldest of them.", "home"
        )
        self.held_messages = self._gauge(
            "held_messages", "Messages that their home refused and that wait for people.", "home"
        )
        self.peer_up = self._gauge(
            "peer_up", "1 when the other server is judged up, 0 when not.", "peer", "state"
        )
        self.mirror_acknowledged = self._gauge(
            "mirror_acknowledged_position",
            "Up to where a mirror said that it durably holds this log.",
            "mirror",
        )
        self.mirror_lag = self._gauge(
            "mirror_lag_events", "Events of this log that a mirror has not acknowledged.", "mirror"
        )
        self.copy_lag = self._gauge(
            "copy_lag_events", "Events that the copy kept here of another log lacks.", "origin"
        )
        self.copy_failing = self._gauge(
            "copy_failing", "1 when the last attempt to copy another log failed.", "origin"
        )
        self.copy_missing = self._gauge(
            "copy_missing_recordings", "Recordings that its server could not give.", "origin"
        )
        self.log_went_back = self._gauge(
            "log_went_back_timestamp_seconds",
            "When it was last noticed that this log went back in time; 0: never.",
        )
        self.lost_events = self._gauge(
            "log_lost_events", "Forgotten events of this log that no other server gave back."
        )
        self.recall_waiting = self._gauge(
            "recall_waiting", "1 while a server has not said all that it holds of this log.", "peer"
        )
        self.recalled_events = self._gauge(
            "recalled_events", "Forgotten events that a server gave back.", "peer"
        )
        self.recalled_messages = self._gauge(
            "recalled_messages", "Of those: messages that were stored.", "peer"
        )
        self.projection_lag = self._gauge(
            "projection_lag_events", "Events that a read model has not seen yet.", "projection"
        )
        self.projection_failed = self._gauge(
            "projection_failed", "1 when a read model stopped at an event.", "projection"
        )
        self.held_oldest_age = self._gauge(
            "held_oldest_age_seconds", "How long the oldest refused message has waited.", "home"
        )
        self.disk_free = self._gauge(
            "disk_free_bytes", "Free space of the fullest file system that holds data."
        )
        self.disk_least = self._gauge(
            "disk_least_free_bytes", "With less free space these are turned away.", "what"
        )
        self.disk_reserve = self._gauge(
            "disk_reserve_bytes", "Room that is kept for the log on a full disk."
        )
        self.uploads = self._gauge("uploads_running", "Recordings that arrive now.")
        self.uploads_most = self._gauge("uploads_limit", "Most of them at a time.")
        self.connections = self._gauge("connections", "Open HTTP connections.", "listener")
        self.connections_most = self._gauge(
            "connections_limit", "Most of them at a time.", "listener"
        )
        self.log_readers = self._gauge(
            "log_readers", "Connections to the log's database that are reading now."
        )
        self.log_readers_most = self._gauge("log_readers_limit", "Most of them at a time.")
        self.alarm = self._gauge(
            "alarm", "1 while the server itself finds that something gets tight.", "alarm"
        )

    def note_shed_connection(self, listener: str, why: Shed) -> None:
        """Count a connection that was ended or turned away."""
        self.shed.labels(f"{listener}-connections", why.value).inc()

    def note_busy(self, place: str, error: TransientError) -> None:
        """Count a request that was asked to come back later."""
        self.shed.labels(place, "disk" if isinstance(error, NoRoomError) else "busy").inc()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"vmledger_{name}", text, labels, registry=self.registry)
