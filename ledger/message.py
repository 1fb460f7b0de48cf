"""What may happen to a message, as pure functions over its state."""
