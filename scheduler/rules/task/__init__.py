"""What becomes of a task: its arguments, policies, attempts, result and log."""
