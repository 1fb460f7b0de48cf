"""The use cases of one server: take a call, store its message, ship it, receive others'.

Source: claims 1-8.
"""
