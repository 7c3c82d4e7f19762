"""The rules: pure decisions about schedules, fire times, states and policies. No SQL, no Redis, no files, no clock.

Four rooms: the schedule file, times, what becomes of a task, and mail. Beside them stands what they all share.
"""
