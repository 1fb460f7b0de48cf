"""What may happen to a mailbox, as pure functions over its state."""
