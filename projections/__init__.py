"""The read side: what the events mean. Derived, disposable, versioned."""
