"""The HTTP interface for programs: /api/v1. Its description, /api/v1/openapi.json, is exact."""
