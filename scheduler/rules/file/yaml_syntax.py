"""What PyYAML's syntax errors mean, in words for people who do not know YAML's grammar."""

from __future__ import annotations

import re
from typing import Any

from scheduler.errors import Fault
from scheduler.rules.complaints import shown
from scheduler.rules.file.source_text import Mark, fault_at

_COLON = 'Text that holds ": " needs quotes; otherwise look at the indentation here and in the line above.'
_INDENT = "Compare its indentation with that of the lines above, and look for a bracket or quote left open there."

# What libyaml or the pure Python parser says -> message, hint, and whether to point at where the construct began.
# The first that is found in the problem's text counts.
_SAYINGS: tuple[tuple[str, str, str, bool], ...] = (
    ("mapping values are not allowed", 'a ":" stands where none can', _COLON, False),
    ("found unexpected ':'", 'a ":" stands where none can', 'After a key comes ": " with a space.', False),
    ("did not find expected ',' or '}'", 'the "{" is not closed', 'Add the "}", or the comma before this.', True),
    ("expected ',' or '}'", 'the "{" is not closed', 'Add the "}", or the comma before this.', True),
    ("did not find expected ',' or ']'", 'the "[" is not closed', 'Add the "]", or the comma before this.', True),
    ("expected ',' or ']'", 'the "[" is not closed', 'Add the "]", or the comma before this.', True),
    ("found unexpected end of stream", "the quote is never closed", "Add the closing quote.", True),
    ("found unexpected document indicator", "the quote is never closed", "Add the closing quote.", True),
    (
        "found unknown escape character",
        "no such escape",
        'After "\\" write n, t, \\ or "; or use single quotes.',
        False,
    ),
    ("escape", "no such escape", 'After "\\" write n, t, \\ or "; or use single quotes.', False),
    ("could not find expected ':'", 'a key without ":" after it', _INDENT, True),
    ("did not find expected '-' indicator", 'a list item begins with "- "', _INDENT, False),
    ("did not find expected key", "this line does not fit the mapping it stands in", _INDENT, False),
    ("expected <block end>", "this line does not fit the block it stands in", _INDENT, False),
    ("block sequence entries are not allowed", 'a "-" stands where no list can begin', _INDENT, False),
    ("did not find expected node content", "a value is missing here", "", False),
    ("expected the node content", "a value is missing here", "", False),
    ("undefined tag handle", "a tag cannot be used", "Values are plain: remove the tag.", False),
    ("tag", "a tag cannot be used", "Values are plain: remove the tag.", False),
    ("anchor", "an anchor cannot be used", 'Write the value out; text that begins with "&" needs quotes.', False),
    ("alias", "an alias cannot be used", 'Write the value out; text that begins with "*" needs quotes.', False),
    ("<document start>", "the document has ended before this line", _INDENT, False),
)


def syntax_fault(file: str, lines: list[str], error: Any) -> Fault:
    """The fault that a YAMLError tells of."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    at = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None)
    message, hint = f"this is not YAML: {problem}", ""
    line, letter = _line_and_letter(lines, at)
    if at is not None and re.match(r" *\t", line):
        message = f"line {at.line + 1} is indented with a tab"
        return fault_at(
            file, lines, Mark(at.line + 1, line.index("\t") + 1, 1), "tab", message, "YAML takes spaces alone."
        )
    if "cannot start any token" in problem:
        message, hint = f"a value cannot begin with {shown(letter)}", "Put it in quotes."
        if letter == "\t":
            message, hint = "a tab stands where a space should", "YAML takes spaces alone."
    else:
        for saying, words, advice, from_begin in _SAYINGS:
            if saying in problem:
                message, hint = words, advice
                at = begun if from_begin and begun is not None else at
                break
    if at is None:
        return fault_at(file, lines, Mark(1, 1, 1), "bad-yaml", message, hint)
    # what is missing at the end of the file is shown at its last line
    number = min(at.line + 1, len(lines))
    column = at.column + 1 if number == at.line + 1 else len(lines[number - 1]) + 1
    return fault_at(file, lines, Mark(number, column, 1), "bad-yaml", message, hint)


def _line_and_letter(lines: list[str], at: Any) -> tuple[str, str]:
    line = lines[at.line] if at is not None and at.line < len(lines) else ""
    return line, line[at.column] if at is not None and at.column < len(line) else ""
