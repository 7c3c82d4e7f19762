"""The store: SQL, where the truth is."""
