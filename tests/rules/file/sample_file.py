"""A schedule file that shows most of what can be written, with the task functions it names left to the test."""

SAMPLE = """\
# yaml-language-server: $schema=config/schedules.schema.json
version: 1
timezone: Europe/Berlin            # required; the host's zone is never used

defaults:                          # every schedule inherits; each may override any field
  kind: scheduled
  retry: gentle
  overlap: skip                    # skip | queue-one | queue-all | replace | allow
  missed: {run: latest, within: 1h}    # none | latest | all (max: n)
  grace: 10m

kinds:
  scheduled: {queue: scheduled, timeout: 15m}
  long:      {queue: long, timeout: 6h}
  adhoc:     {queue: adhoc, timeout: 10m}

retry_policies:
  none:      {attempts: 1}
  gentle:    {attempts: 3, backoff: exponential, first: 30s, max: 10m, jitter: 0.2}
  stubborn:  {attempts: 8, backoff: exponential, first: 1m, max: 2h, give_up_after: 12h, never_on: [ValueError]}

calendars:
  de-holidays: {dates: ["2026-12-25", "2026-12-26", "2027-01-01"]}
  de-business: {days: mon-fri, except: [de-holidays]}
  freeze:      {windows: [{from: "2026-12-21 18:00", to: "2027-01-04 06:00", why: year-end freeze}]}

schedules:
  mail-flush:
    task: send_mail
    when: {every: 5m}
  daily-word-count:
    task: count_words
    args: {source: README.md}
    when: {at: "06:30", days: mon-fri, calendar: de-business}
    spread: 5m
    about: Feeds the 08:15 mail. Safe to run twice.
    owner: jana
    tags: [prod]
  close-month:
    task: create_image_set
    kind: long
    args: {source: a.png}
    when: {at: "19:30", days: last-business, calendar: de-business}
    blackout: {during: [freeze], then: run-after}
    overlap: queue-one
    delivery: at_most_once
    retry: stubborn
    exclusive: billing
    pause_after: 2
  stock-sync:
    task: count_words
    when:
      - {every: 15m, between: ["07:00", "19:00"], days: mon-sat}
      - {cron: "0 22 * * sun"}
    timezone: America/New_York
    timeout: {soft: 8m, hard: 10m}
  migrate-legacy:
    task: count_words
    when: {once: "2026-12-05 23:00"}
  partner-feed:
    task: count_words
    when: {at: ["19:00", "13:00", "07:00", "13:00"]}
    from: "2026-12-01"
    until: "2027-03-31"
    max_runs: 200
    paused: {until: "2026-12-08", why: "partner API outage"}
    was: partner_feed
"""
