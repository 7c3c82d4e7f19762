"""Journeys: the whole service in real processes, as its users run it."""
