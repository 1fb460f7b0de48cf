"""The storage interface module: events and audio at rest, behind ports.

Source: claim 10.
"""
