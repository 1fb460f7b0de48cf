"""The telephony module: the port through which a switch reports calls and hands over audio.

Source: claims 1, 2 and 12.
"""
