"""What is told to people: digests, alerts, and the messages they become."""
