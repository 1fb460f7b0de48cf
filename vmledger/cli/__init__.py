"""The commands of the program, one file a topic.

Each topic has ``register(app)``. Commands about calls, messages and peers talk to the running
server over HTTP; commands about the stores open them directly and are safe beside it.
"""
