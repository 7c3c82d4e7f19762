"""The engine: the loops and actions; the only room where store, broker and notify meet."""
