"""The promises as queries, asked by people (doctor) and by the service itself."""
