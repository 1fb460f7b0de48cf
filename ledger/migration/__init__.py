"""The voicemail migration module: messages travel to their home server, exactly once.

Source: claims 4, 5, 7 and 8.
"""
