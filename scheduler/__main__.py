"""`python -m scheduler` is `scheduler`."""

from scheduler.cli import main

main()
