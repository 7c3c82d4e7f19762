"""The engine: the loops and actions; the only floor where store, broker and notify meet.

Here stand the loops (planner, dispatcher, reconcile, the keeper that runs them) and what people do (actions, backfill,
access); in rooms of their own the rest: file, work, mail, answers, page, check.
"""
