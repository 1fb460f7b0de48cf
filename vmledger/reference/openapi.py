"""The description of the HTTP API as a file, for clients built without a server at hand."""

from __future__ import annotations

import sys

from vmledger.http.application import describe_api

if __name__ == "__main__":
    sys.stdout.buffer.write(describe_api())
