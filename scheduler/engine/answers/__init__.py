"""What people and programs ask of the tables, as plain dicts."""
