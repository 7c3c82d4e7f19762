"""The HTTP interface for programs, /api/v1: a module for each thing one can ask about, a router in each."""
