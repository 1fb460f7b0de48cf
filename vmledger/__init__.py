"""The program: composition root, command line, HTTP API. Imports both sides; nothing imports it."""
