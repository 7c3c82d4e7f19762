"""/api: the description of the HTTP interface as a page, made by the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from scheduler.web.api.app import API_PATH
from scheduler.web.callers import Viewer
from scheduler.web.templating import page

router = APIRouter(include_in_schema=False)

GROUPS = ("schedules", "tasks", "file", "service")


@router.get("/api")
def api_page(request: Request, caller: Viewer) -> HTMLResponse:
    api = next(route.app for route in request.app.routes if getattr(route, "path", "") == API_PATH)
    described: dict[str, Any] = api.openapi()
    schemas = described["components"]["schemas"]
    operations: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            operations[operation["tags"][0]].append(_told(method, path, operation, schemas))
    return page(
        request,
        caller,
        "api.html.jinja",
        groups=operations,
        api_path=request.app.state.settings.web_path + API_PATH,
        about=described["info"],
    )


def _told(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    fields = schemas.get(body.get("$ref", "").rpartition("/")[2], {})
    required = fields.get("required", [])
    return {
        "method": method.upper(),
        "path": path,
        "role": operation["x-role"],
        "about": operation.get("description", ""),
        "statuses": {
            status: answer["description"].replace("Successful Response", "It is done.")
            for status, answer in sorted(operation["responses"].items())
        },
        "fields": [
            *(
                {"name": one["name"], "place": one["in"], "required": one["required"], **_value(one["schema"])}
                for one in operation.get("parameters", [])
            ),
            *(
                {"name": name, "place": "body", "required": name in required, **_value(schema)}
                for name, schema in fields.get("properties", {}).items()
            ),
        ],
    }


def _value(schema: dict[str, Any]) -> dict[str, str]:
    """What a value may be, and what it is for, in words."""
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return {"kind": " or ".join(map(_kind, kinds)), "about": schema.get("description", "")}


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("format") == "date-time":
        return "a moment, such as 2026-12-01T06:30:00Z"
    if schema.get("type") == "integer":
        return f"a number, {schema.get('minimum')} to {schema.get('maximum')}"
    if schema.get("type") == "array":
        return f"several of: {_kind(schema['items'])}"
    return {"string": "a text", "boolean": "true or false", "object": "an object"}.get(schema.get("type", ""), "")
