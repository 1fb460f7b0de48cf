"""The revisions, oldest first by their numbers. One that has shipped is never changed."""
