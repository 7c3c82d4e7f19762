"""Style, scripts and icons, kept by browsers for as long as their address holds: it changes with the content."""

from __future__ import annotations

import os
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOR_A_YEAR = "public, max-age=31536000, immutable"


class KeptFiles(StaticFiles):
    """A file asked for with the version that templating.py's `static` puts into its address is kept; others are asked
    for anew."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers["Cache-Control"] = FOR_A_YEAR if b"v=" in _query(scope) else "no-cache"
        return answer


def _query(scope: Scope) -> bytes:
    found: Any = scope.get("query_string", b"")
    return bytes(found)
