"""What may happen to a call, as pure functions over its state."""
