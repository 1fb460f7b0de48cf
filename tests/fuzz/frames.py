"""Messages between servers around any contents, rightly sealed."""

import zstandard

_COMPRESSOR = zstandard.ZstdCompressor(level=3, write_checksum=True)


def seal(kind: str, contents: bytes) -> bytes:
    """Put contents into a message of this kind: ``r`` question, ``a`` answer, ``b`` batch."""
    frame = _COMPRESSOR.compress(contents)
    return b"VML" + kind.encode() + b"\x01" + len(frame).to_bytes(4, "big") + frame
