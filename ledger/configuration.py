"""The configuration module: who is home to which extension, and where it is."""
