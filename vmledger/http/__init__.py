"""The HTTP API: what a switch, a user's program and an operator ask of a running server.

One file a subject. `application.create_app` joins them; each route names the access rule that
guards it, and every error leaves as a problem detail.

Source: claim 12 (telephony API); RFC 9110, RFC 9457.
"""
