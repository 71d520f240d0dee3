"""Another application that includes hello_login, and has its own files, migrations and name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webtest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED

from hello_login import settings
from hello_login.web.routes import STATIC
from tests.conftest import MakeIni, OpenBrowser
from tests.people import csrf_token, register


def show_owner(request: Any) -> Any:
    """Return the name of the user, from the row that the request's transaction reads."""
    with request.db.cursor() as cursor:
        cursor.execute("SELECT name FROM users WHERE id = %s", [request.identity.id])
        return {"name": cursor.fetchone()[0]}


def change(request: Any) -> Any:
    """Take a form of the other application."""
    with request.db.cursor() as cursor:
        statement = "UPDATE users SET name = %s WHERE id = %s"
        cursor.execute(statement, [request.POST["name"], request.identity.id])
    return HTTPSeeOther(request.route_path("owner"))


def main(global_config: dict[str, str], **ini: str) -> Any:
    """Make the other application, as its own entry point would."""
    with Configurator(settings={**global_config, **ini}) as config:
        config.include("hello_login")
        config.add_route("owner", "/owner")
        config.add_route("change", "/change")
        config.add_route("page", "/page")
        config.add_view(show_owner, route_name="owner", renderer="json")
        config.add_view(change, route_name="change", require_methods=("POST",))
        config.add_route("staff", "/staff")
        config.add_view(show_owner, route_name="staff", renderer="json", permission="staff")
        page = "hello_login.web:templates/page.jinja2"  # only a folder of overrides has it
        config.add_view(lambda _: {"form": "<form>"}, route_name="page", renderer=page)
        return config.make_wsgi_app()


@pytest.fixture
def own_site(ini: MakeIni, open_browser: OpenBrowser) -> webtest.TestApp:
    """Return a browser for the other application."""
    return open_browser(main({}, **ini(after_login="/owner")))


def test_a_view_of_another_application_needs_a_login(own_site: webtest.TestApp) -> None:
    refused = own_site.get("/owner", status=303)
    assert refused.location == "http://localhost/login?next=%2Fowner"
    own_site.get("/owner", headers={"Accept": "application/json"}, status=403)


def test_a_view_of_another_application_takes_get_and_head_unless_it_says_otherwise(
    own_site: webtest.TestApp,
) -> None:
    register(own_site)
    own_site.head("/owner")
    token = csrf_token(own_site)
    refused = own_site.post("/owner", {"csrf_token": token}, status=405)
    assert refused.headers["Allow"] == "GET, HEAD"
    assert own_site.get("/change", status=405).headers["Allow"] == "POST"


def test_a_view_with_a_permission_that_does_not_exist_is_refused_to_everybody(
    own_site: webtest.TestApp,
) -> None:
    assert own_site.get("/staff", status=303).location == "http://localhost/login?next=%2Fstaff"
    register(own_site)
    page = own_site.get("/staff", status=403)
    assert page.html.h1.text == "You don't have access to this page"


def test_a_form_of_another_application_needs_a_csrf_token(own_site: webtest.TestApp) -> None:
    register(own_site)
    own_site.post("/change", {"name": "Eve"}, status=400)
    assert own_site.get("/owner").json == {"name": "Ada Lovelace"}
    own_site.post("/change", {"name": "Grace", "csrf_token": csrf_token(own_site)}, status=303)
    assert own_site.get("/owner").json == {"name": "Grace"}


def test_an_error_of_another_application_has_our_page(own_site: webtest.TestApp) -> None:
    register(own_site)
    page = own_site.post("/change", {"csrf_token": csrf_token(own_site)}, status=500)
    assert page.html.h1.text == "Something went wrong here"


def test_the_other_application_is_reached_after_a_registration(own_site: webtest.TestApp) -> None:
    assert register(own_site).location == "http://localhost/owner"
    assert own_site.get("/register", status=303).location == "http://localhost/owner"
    assert own_site.get("/login", status=303).location == "http://localhost/owner"


def test_another_application_can_have_a_view_of_its_own_at_a_route_of_ours(
    ini: MakeIni, open_browser: OpenBrowser
) -> None:
    with Configurator(settings=ini()) as config:
        config.include("hello_login")
        config.add_view(
            lambda _: {"answer": "Notes"},
            route_name="greeting",
            renderer="json",
            permission=NO_PERMISSION_REQUIRED,
        )
        browser = open_browser(config.make_wsgi_app())
    assert browser.get("/").json == {"answer": "Notes"}
    assert browser.get("/login").html.h1.text == "Log in"


def test_http_port_of_the_command_line_reaches_an_included_application(ini: MakeIni) -> None:
    app = main({"http_port": "8123"}, **ini())
    assert app.registry.hello_login.site_url == "http://localhost:8123"


def test_a_route_prefix_is_refused_in_one_sentence(ini: MakeIni) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^hello_login takes no route_prefix: "),
        Configurator(settings=ini()) as config,
    ):
        config.include("hello_login", route_prefix="login")


def test_a_wrong_setting_ends_an_including_application_with_its_sentence(ini: MakeIni) -> None:
    with pytest.raises(SystemExit, match="REGISTRATION is 'no': set it to open or closed"):
        main({}, **ini(registration="no"))


OpenOverridden = Callable[[dict[str, str]], webtest.TestApp]


@pytest.fixture
def overridden(tmp_path: Path, ini: MakeIni, open_browser: OpenBrowser) -> OpenOverridden:
    """Return a function that writes files into the folder `overrides`, and opens a browser."""

    def open_site(files: dict[str, str]) -> webtest.TestApp:
        for name, text in files.items():
            path = tmp_path / "overrides" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return open_browser(main({}, **ini(overrides=str(tmp_path / "overrides"))))

    return open_site


OWN_PAGE = """
{% extends "hello_login.web:templates/layout.jinja2" %}
{% block title %}Mine{% endblock %}
{% block description %}Notes of mine{% endblock %}
"""

COLOURED = """
{% extends "hello_login:web/templates/layout.jinja2" %}
{% block head %}
<link rel="stylesheet" href="{{ request.route_path('static', subpath='colours.css') }}">
{% endblock %}
"""


def test_a_layout_that_extends_the_original_is_used_by_every_page(
    overridden: OpenOverridden,
) -> None:
    site = overridden(
        {
            "templates/page.jinja2": OWN_PAGE,
            "templates/layout.jinja2": COLOURED,
            "templates/footer.jinja2": "<footer>Imprint</footer>",
            "static/colours.css": ":root { --accent: #00f; }",
        }
    )
    pages = [site.get("/"), site.get("/login"), site.get("/nothing", status=404)]
    register(site)
    pages += [site.get("/account"), site.get("/account/profile"), site.get("/page")]
    for page in pages:
        (_, colours) = page.html.select("link[rel=stylesheet]")
        assert site.get(colours["href"]).text == ":root { --accent: #00f; }"
        assert page.html.footer.text == "Imprint"
        assert page.html.select("header .brand")
    assert pages[-1].html.h1.text == "Mine"
    descriptions = [page.html.select_one("meta[name=description]")["content"] for page in pages]
    assert descriptions[-2:] == ["Log in to Hello Login, or register.", "Notes of mine"]


def test_an_overriding_page_extends_the_layout_or_the_original(overridden: OpenOverridden) -> None:
    site = overridden(
        {
            "templates/layout.jinja2": COLOURED,
            "templates/home.jinja2": '{% extends "layout.jinja2" %}'
            "{% block title %}A{% endblock %}",
            "templates/login.jinja2": '{% extends "hello_login:web/templates/login.jinja2" %}'
            "{% block title %}Come in{% endblock %}",
        }
    )
    for path, heading in (("/", "A"), ("/login", "Come in")):
        page = site.get(path)
        assert page.html.h1.text == heading
        assert len(page.html.select("link[rel=stylesheet]")) == 2
    assert page.html.select("form input[name=password]")


def test_an_overriding_static_file_replaces_the_original_at_another_url(
    overridden: OpenOverridden, tmp_path: Path
) -> None:
    site = overridden(
        {"static/icon.svg": "<svg/>", "static/logo.svg": "<svg >", "static/.a.css": ""}
    )
    icon, stylesheet = (each["href"] for each in site.get("/").html.select("link"))
    assert site.get(icon).text == "<svg/>"
    assert site.get(icon.replace("icon", "logo")).text == "<svg >"
    assert "--accent" in site.get(stylesheet).text
    site.get(icon.replace("icon.svg", ".a.css"), status=404)
    site.get(f"/{STATIC}/icon.svg", status=404)
    (tmp_path / "overrides/static/logo.svg").write_text("<svg  >")
    assert overridden({}).get("/").html.link["href"] != icon


def test_the_templates_of_another_application_keep_their_own_globals(
    tmp_path: Path, ini: MakeIni, open_browser: OpenBrowser
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/home.jinja2").write_text("{{ quoted('a') }}")
    wanted = {"jinja2.globals": "quoted = json.dumps"}
    site = open_browser(main({}, **ini(overrides=str(tmp_path)), **wanted))
    assert site.get("/").text == "&#34;a&#34;"
    register(site)
    assert " UTC</time>" in site.get("/account")


def test_a_page_of_another_application_may_have_a_form_of_another_kind(
    overridden: OpenOverridden,
) -> None:
    site = overridden({"templates/page.jinja2": OWN_PAGE})
    register(site)
    assert site.get("/page").html.title.text == "Mine · Hello Login"


def test_a_folder_of_overrides_may_have_static_files_only_or_templates_only(
    overridden: OpenOverridden,
) -> None:
    assert overridden({"static/a.css": "b"}).get("/").html.h1
    assert overridden({"templates/footer.jinja2": "<footer>c</footer>"}).get("/").html.footer


def test_an_application_without_overrides_in_the_same_process_keeps_its_files(
    overridden: OpenOverridden, browser: webtest.TestApp
) -> None:
    overridden({"static/icon.svg": "<svg/>", "templates/footer.jinja2": "<footer>c</footer>"}).get(
        "/"
    )
    page = browser.get("/")
    assert page.html.footer is None
    assert browser.get(page.html.link["href"]).text != "<svg/>"


def test_a_folder_of_overrides_without_files_is_refused(tmp_path: Path, ini: MakeIni) -> None:
    for folder in (tmp_path, tmp_path / "missing", Path("tests/functional")):
        with pytest.raises(
            SystemExit, match=r"^hello_login.overrides is .*: set it to the absolute"
        ):
            settings.load({}, ini(overrides=str(folder)), {})
