"""Which countries, and parts of them, the holidays package knows."""

from __future__ import annotations

from functools import cache

from scheduler.rules.complaints import Complaint, did_you_mean, shown


@cache
def _countries() -> dict[str, list[str]]:
    import holidays  # here, because it costs a tenth of a second and most files name no country

    return holidays.list_supported_countries()


def check_country(code: str) -> str:
    """The code of a known country. Raises Complaint."""
    known = _countries()
    if code in known:
        return code
    meant = f'; did you mean "{code.upper()}"?' if code.upper() in known else ""
    hint = "" if meant else "Give its ISO 3166 code, such as DE, FR or US."
    raise Complaint(f"no holidays are known for {shown(code)}{meant}", hint, code="unknown-country")


def check_subdivision(country: str, code: str) -> str:
    """A known part of a known country. Raises Complaint."""
    known = _countries().get(country, [])
    if code in known:
        return code
    if not known:
        hint = "Remove it: this country has the same holidays everywhere."
        raise Complaint(f"{country} has no parts with holidays of their own", hint, code="unknown-subdivision")
    meant = did_you_mean(code, known)
    hint = "" if meant else f"There are {', '.join(known[:20])}{' …' if len(known) > 20 else ''}."
    raise Complaint(f"{country} has no part {shown(code)}{meant}", hint, code="unknown-subdivision")
