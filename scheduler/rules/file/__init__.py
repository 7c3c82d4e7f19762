"""The schedule file: from text to a Book, with all its faults at once; and what an edit would change."""
