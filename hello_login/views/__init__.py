"""Thin views: read the form, call accounts, answer."""

from typing import Any

JSON, HTML = "application/json", "text/html"


def includeme(config: Any) -> None:
    """Add the views of every module here, and their templates."""
    config.add_settings(
        {"jinja2.undefined": "strict", "jinja2.trim_blocks": True, "jinja2.lstrip_blocks": True}
    )
    config.add_jinja2_search_path("hello_login:templates")
    config.scan()


def preferred(request: Any, *offers: str) -> str:
    """The media type to answer in: the client's choice, and the first offer where it has none.

    The response must say Vary: Accept.
    """
    acceptable = request.accept.acceptable_offers(list(offers))
    return str(acceptable[0][0]) if acceptable else offers[0]
