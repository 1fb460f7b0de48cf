"""The write side: what happens on one voicemail server becomes events in its log, and travels.

Who may import whom is checked by import-linter (see ``pyproject.toml``). The pure modules
(``events``, ``call*``, ``message``, ``mailbox``, ``migration.protocol``) do no I/O, read no clock
and draw no randomness: all three come in as arguments.
"""
