"""The broker: Redis and RQ, a working copy that can always be rebuilt from SQL."""
