"""Task functions, a file each. A file put here is found by itself; a line below makes `from tasks import …` work.

Each function has the name of its file, so `tasks.send_mail` is the function: whoever wants the file itself asks
`importlib.import_module("tasks.send_mail")`.
"""

from tasks.count_words import count_words
from tasks.create_image_set import create_image_set
from tasks.http_request import http_request
from tasks.retention import retention
from tasks.run_command import run_command
from tasks.send_mail import send_mail

__all__ = ["count_words", "create_image_set", "http_request", "retention", "run_command", "send_mail"]
