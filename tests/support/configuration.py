"""A configuration file that sets every key, and a server to go with it."""

from datetime import UTC, datetime

from vmledger.cluster import write_cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)

EVERY_KEY = """\
server = "alpha"
data = "data"

[listen]
api = "127.0.0.1:9025"
replication = "[::1]:9026"
api_certificate = "{data}/tls.crt"
api_key = "{data}/tls.key"

[store]
events = "sqlite:///{data}/events.sqlite"
projections = "sqlite:///views.sqlite"
blobs = "file://recordings"

[identity]
signing_key = "{data}/server.key"
tls_key = "data/tls.key"
tls_certificate = "{data}/tls.crt"
master_key = "{data}/master.key"
master_key_command = []

[[servers]]
id = "alpha"
url = "https://alpha.example:8026"
public_key = "ALPHA_KEY"
extensions = ["2000-2999", "4711"]

[[servers]]
id = "bravo"
url = "https://bravo.example:8026/"
public_key = "BRAVO_KEY"
certificate = "peers/bravo.crt"
mirrors = ["alpha"]
max_send_bytes_per_s = 100000
send_hours = ["22:00-06:00 1000000"]
extensions = [
    "30*",
    "2500-2599",  # moved in spring
    "1*@default",
]
context = "sales"

[calls]
voicemail_for = ["busy", "unknown-number"]
min_message_duration_s = 2
max_message_duration_s = 120.5
max_upload_bytes = 1000000
recording_grace_s = 30

[[mailboxes]]
extensions = ["20*"]
context = "default"
voicemail_for = []
min_message_duration_s = 1
max_message_duration_s = 60
trash_after_days = 7
erase_trash_after_days = 1

[profiles]
max_greeting_duration_s = 30
max_greeting_bytes = 500000
min_pin_digits = 6

[replication]
probe_interval_s = 1
fresh_for_s = 2
deadline_s = 0.5
connect_timeout_s = 3
request_timeout_s = 30
batch_max_messages = 10
batch_max_bytes = 100000
in_flight = 3
backoff_min_s = 2
backoff_max_s = 20
down_after_failures = 4
up_after_successes = 2
time_zone = "Europe/Berlin"
alarm_pending_age_s = 60
alarm_held_age_s = 30

[retention]
keep_audio_days_after_delivery = 7
gc_min_age_s = 3600
trash_after_days = 365
erase_trash_after_days = 30

[limits]
concurrent_uploads = 10
concurrent_batches = 2
min_free_disk_bytes = 1
min_free_disk_for_batches_bytes = 2
log_reserve_bytes = 4096
api_connections = 20
replication_connections = 10
head_timeout_s = 5
body_timeout_s = 7
shutdown_grace_s = 1
"""


def two_servers(directory):
    """Make alpha and bravo; give alpha's configuration file."""
    extensions = {"alpha": ["2000-2999"], "bravo": ["30*"]}
    ports = {"alpha": (8101, 8102), "bravo": (8103, 8104)}
    return write_cluster(directory, ["alpha", "bravo"], extensions, ports, now=NOW)[0]
