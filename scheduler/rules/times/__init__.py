"""When schedules fire: triggers, calendars, clock changes, and which rows the fire times become."""
