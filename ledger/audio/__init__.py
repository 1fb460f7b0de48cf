"""The audio encoding/decoding module: what switches hand over, to a storage format and back.

Source: claim 11.
"""
