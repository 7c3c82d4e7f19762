"""The rules: pure decisions about schedules, fire times, states and policies. No SQL, no Redis, no files, no clock."""
