"""How an edit of the schedule file comes into force."""
