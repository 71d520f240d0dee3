"""The page of an account's activity: its events in words, and the grouping of similar ones."""

from itertools import groupby
from typing import Any, NamedTuple

from pyramid.view import view_config

from ...auth import audit
from ...repositories import events
from ...repositories.events import Event

EVENTS = {
    "registered": "You registered",
    "logged_in": "You logged in",
    "logged_out": "You logged out",
    "session_ended": "Another session was ended",
    "session_ended_by_limit": "Another session was ended, because too many were open",
    "password_changed": "The password was changed",
    "reset_link_made": "An operator made a link to set a new password",
    "password_reset": "The password was reset by a link",
    "name_changed": "The name was changed",
    "address_changed": "The email address was changed",
    "factor_added": "An authenticator app was added",
    "factor_removed": "The authenticator app was removed",
    "passkey_added": "A passkey was added",
    "passkey_renamed": "A passkey got another name",
    "passkey_removed": "A passkey was removed",
    "codes_made": "New recovery codes were made",
    "code_used": "You used a recovery code",
    "deactivated": "The account was deactivated",
    "reactivated": "The account was reactivated",
}
FAILURES = {
    "login_failed": "Somebody tried to log in with a wrong password or passkey",
    "login_throttled": "A login was refused after too many attempts",
    "second_failed": "Somebody typed the right password, and then used a wrong code or passkey",
    "check_failed": "A change of the account was tried with a wrong password, code or passkey",
    "check_throttled": "A change of the account was refused after too many wrong passwords",
}
"""Events and failed attempts in words for the account's owner.

Earlier versions kept refused attempts (..._throttled) as events; their rows are still shown.
"""

WORDS = EVENTS | FAILURES

PAGE = 50
"""The number of events on a page.  Similar events share an entry."""


class Group(NamedTuple):
    """Events of one kind, one network address and one device: an entry of a list."""

    last: Event
    first: Event
    number: int


@view_config(route_name="activity", renderer="hello_login.web:templates/activity.jinja2")
def show_activity(request: Any) -> Any:
    """Show a page of the account's events, including failed attempts, the newest first.

    The query's parameter `before` is the id of the last event on the page of newer events.
    """
    before = request.GET.get("before", "")
    last = int(before) if before.isdecimal() and len(before) < 19 else events.NEWEST
    user_id, number = request.identity.id, PAGE + 1
    found = events.list_of_user(request.db, user_id, number, audit.RETENTION, before=last)
    shown = found[:PAGE]
    return {
        "before": before,
        "groups": group_in_a_row(shown),
        "next": shown[-1].id if found[PAGE:] else None,
        "words": WORDS,
        "failures": FAILURES,
        "days": audit.RETENTION.days,
    }


def group_in_a_row(listed: list[Event]) -> list[Group]:
    """Return groups of similar events that follow each other.  listed: the newest first."""
    return [_make_group(list(similar)) for _, similar in groupby(listed, _kind_and_origin)]


def group_all(listed: list[Event]) -> list[Group]:
    """Return groups of similar events, even if other events happened between them."""
    groups: dict[Any, list[Event]] = {}
    for event in listed:
        groups.setdefault(_kind_and_origin(event), []).append(event)
    return [_make_group(similar) for similar in groups.values()]


def _make_group(similar: list[Event]) -> Group:
    return Group(last=similar[0], first=similar[-1], number=len(similar))


def _kind_and_origin(event: Event) -> Any:
    return event.event, event.address, event.device
