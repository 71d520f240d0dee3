"""Static files, and the files at fixed URLs."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import webtest
from webob import Request

import hello_login
from hello_login.web.routes import FILES, STATIC
from tests.conftest import MakeIni
from tests.people import STYLESHEET

NAMES = sorted(FILES)


def get_as_sent(app: Any, path: str, accepted: str | None, method: str = "GET") -> Any:
    """Return the answer as it is sent; WebTest would decompress it."""
    request = Request.blank(path, method=method, headers={"Host": "localhost"})
    if accepted is not None:
        request.headers["Accept-Encoding"] = accepted
    return request.get_response(app)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br, zstd", "*", "br, gzip;q=0.1"])
def test_a_static_file_is_compressed_for_a_client_that_accepts_gzip(
    app: Any, name: str, accepted: str
) -> None:
    answer = get_as_sent(app, f"/{STATIC}/{name}", accepted)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == FILES[name].read_bytes()
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert "max-age=31536000" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("accepted", [None, "", "identity", "gzip;q=0", "br", "*;q=0"])
def test_a_static_file_is_sent_as_it_is_to_other_clients(
    app: Any, name: str, accepted: str | None
) -> None:
    answer = get_as_sent(app, f"/{STATIC}/{name}", accepted)
    assert "Content-Encoding" not in answer.headers
    assert answer.body == FILES[name].read_bytes()
    assert answer.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("accepted", ["gzip", "gzip;q=0"])
def test_a_head_request_of_a_static_file_has_the_headers_of_the_file(
    app: Any, accepted: str
) -> None:
    names = ("Content-Type", "Content-Encoding", "Content-Length", "Vary", "Cache-Control")
    answers = [get_as_sent(app, STYLESHEET, accepted, method) for method in ("HEAD", "GET")]
    assert [len(answer.body) for answer in answers] == [0, answers[1].content_length]
    found = [[answer.headers.get(name) for name in names] for answer in answers]
    assert found[0] == found[1]


def test_a_photo_of_the_adopter_is_not_compressed(ini: MakeIni, folder: Path) -> None:
    (folder / "static").mkdir()
    (folder / "static/photo.jpg").write_bytes(b"pixels")
    browser = webtest.TestApp(hello_login.main({}, **ini(overrides=str(folder))))
    browser.extra_environ["HTTP_HOST"] = "localhost"
    (icon,) = browser.get("/", headers={"Accept": "text/html"}).html.select("link[rel=icon]")
    path = icon["href"].replace("icon.svg", "photo.jpg")
    answer = get_as_sent(browser.app, path, "gzip")
    assert (answer.content_type, answer.body) == ("image/jpeg", b"pixels")
    assert "Content-Encoding" not in answer.headers


def test_the_compressed_stylesheet_is_less_than_half_as_long(app: Any) -> None:
    sent = get_as_sent(app, STYLESHEET, "gzip").body
    assert len(sent) < FILES["style.css"].stat().st_size / 2


@pytest.mark.parametrize("path", ["/", "/login", "/account", "/nowhere", "/healthz"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_page_is_never_compressed(app: Any, path: str, accept: str) -> None:
    headers = {"Host": "localhost", "Accept-Encoding": "gzip", "Accept": accept}
    answer = Request.blank(path, headers=headers).get_response(app)
    assert "Content-Encoding" not in answer.headers
    assert "Accept-Encoding" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize(
    ("path", "content_type", "name"),
    [
        ("/favicon.ico", "image/svg+xml", "icon.svg"),
        ("/robots.txt", "text/plain", "robots.txt"),
    ],
)
def test_the_files_at_fixed_urls_are_for_everybody_and_cached_for_a_day(
    browser: webtest.TestApp, path: str, content_type: str, name: str
) -> None:
    answer = browser.get(path, status=200)
    assert answer.content_type == content_type
    assert answer.body == FILES[name].read_bytes()
    assert "max-age=86400" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    assert browser.head(path, status=200).headers["Content-Length"] == str(len(answer.body))
    browser.post(path, status=405)


def test_search_engines_leave_out_accounts_and_links(browser: webtest.TestApp) -> None:
    lines = browser.get("/robots.txt").text.splitlines()
    assert lines[0] == "User-agent: *"
    assert {"Disallow: /account", "Disallow: /link/"} <= set(lines)
    assert not {"Disallow: /", "Disallow: /login", "Disallow: /register"} & set(lines)


def test_the_files_at_fixed_urls_are_those_of_the_adopter(ini: MakeIni, folder: Path) -> None:
    (folder / "static").mkdir()
    (folder / "static/icon.svg").write_text("<svg>of the adopter</svg>")
    app = hello_login.main({}, **ini(overrides=str(folder)))
    request = Request.blank("/favicon.ico", headers={"Host": "localhost"})
    assert request.get_response(app).body == b"<svg>of the adopter</svg>"
