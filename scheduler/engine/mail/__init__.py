"""Alerts and digests are found and written into the outbox here, and sent from there."""
