"""Where a server's master key comes from: a file, or a command that asks whoever keeps it.

The command is for a key-management service, a hardware module or an encrypted file: the key then
stands in memory only. It is asked once for each start of a program that needs the key.

Source: claim 10.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

from ledger.configuration.configuration import IdentityFiles
from ledger.errors import CallerError
from ledger.sealing import MasterKey, load_master_key, parse_master_key

_PATIENCE_S: Final = 60.0
_MOST_SAID: Final = 300


def open_master_key(identity: IdentityFiles) -> MasterKey:
    """Get the master key; raises CallerError that names the file or the command at fault.

    What the command printed never stands in an error: it may be the key.
    """
    command = identity.master_key_command
    if not command:
        return load_master_key(identity.master_key)
    try:
        done = subprocess.run(  # noqa: S603 - the operator wrote it into the configuration
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(identity, f"did not end within {_PATIENCE_S:.0f} s") from error
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise _failed(identity, f"cannot be run: {why}") from error
    if done.returncode != 0:
        complaint = " ".join(done.stderr.decode(errors="replace").split())[:_MOST_SAID]
        raise _failed(identity, f"ended with {done.returncode}, and said: {complaint or 'nothing'}")
    try:
        return parse_master_key(done.stdout)
    except ValueError as error:
        raise _failed(identity, "printed no master key") from error


def expect_master_key(identity: IdentityFiles) -> None:
    """See that there is a master key, as far as that shows without asking for it.

    Raises CallerError. The command itself is not run: whoever keeps the key may note each time.
    """
    command = identity.master_key_command
    if not command:
        load_master_key(identity.master_key)
    elif shutil.which(command[0]) is None:
        raise _failed(identity, "cannot be run: there is no such program")


def _failed(identity: IdentityFiles, problem: str) -> CallerError:
    name = identity.master_key_command[0]
    advice = "run it by hand; it has to print what 'vmledger init' wrote into master.key"
    return CallerError(f"the master key's command {name!r} {problem}; {advice}")
