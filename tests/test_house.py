"""The layers of the package hold, and the documents agree with the code."""

import dataclasses
import re
import subprocess
import sys

import pytest

from hello_login.settings import ENVIRONMENT, PREFIX, Settings
from tests.conftest import ROOT

MODULES = sorted((ROOT / "hello_login").rglob("*.py"))
DOCUMENTS = [
    str(path.relative_to(ROOT)) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
]


def test_sql_is_only_in_repositories_migrations_and_the_watch_for_standbys() -> None:
    with_sql = {
        str(path.relative_to(ROOT / "hello_login"))
        for path in MODULES
        if re.search("SELECT|INSERT|UPDATE|DELETE", path.read_text())
    }
    repositories = {name for name in with_sql if name.startswith("repositories/")}
    tables = {"users", "sessions", "throttles", "events", "tokens", "mails"}
    tables |= {"totp", "recovery_codes", "half_logins", "passkeys", "challenges"}
    assert repositories == {f"repositories/{name}.py" for name in (*tables, "expired")}
    assert with_sql - repositories == {"db/migrations.py", "db/standbys.py"}


MAY_IMPORT = {
    "settings": {"ini_files", "values"},
    "values": {"ini_files"},
    "logs": {"repositories"},
    "db": {"settings"},
    "repositories": {"db"},
    "auth": {"repositories", "settings"},
    "web": {"auth", "db", "logs", "repositories", "settings", "values"},
    "mail": {"auth", "db", "repositories", "settings"},
    "server": {"auth", "db", "mail", "settings", "web"},
    "scripts": {"auth", "db", "ini_files", "logs", "repositories", "settings"},
    "dev": {"settings"},
    "ini_files": set(),
}
"""The other layers that each layer may import.  dev is imported by its name where it starts."""


def test_imports_run_one_way() -> None:
    for path in MODULES:
        module = path.relative_to(ROOT).with_suffix("").parts
        if len(module) == 2 and module[1] == "__init__":
            continue  # the application includes all layers
        layer = module[1]
        imported = re.findall(r"^from (\.+)(\w*).* import (\w+)", path.read_text(), re.MULTILINE)
        for dots, package, name in imported:
            # As many dots as the module is deep lead to the package hello_login itself.
            if len(dots) == len(module) - 1:
                assert (package or name) in {layer, *MAY_IMPORT[layer]}, path


def test_production_never_imports_the_development_package() -> None:
    program = (
        "import sys, hello_login, hello_login.server, hello_login.scripts.initialize_db\n"
        "ini = {'hello_login.database_url': 'postgresql://nowhere', "
        "'hello_login.secret_key': 'k' * 32, 'hello_login.trusted_proxy': 'none'}\n"
        "hello_login.main({}, **ini)\n"
        "print([name for name in sys.modules if name.startswith('hello_login.dev')])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_no_module_imports_a_network_client_or_pickle() -> None:
    for path in MODULES:
        imported = {*re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)}
        if path.parent.name == "mail":
            imported.discard("smtplib")  # the operator's mail server
        assert not {"urllib.request", "http.client", "smtplib", "pickle", "shelve"} & imported


def test_only_the_embedded_postgresql_starts_programs() -> None:
    starts = "subprocess|os.system|os.popen|os.exec|os.spawn"
    starting = [path.name for path in MODULES if re.search(starts, path.read_text())]
    assert starting == ["embedded.py"]


def test_only_css_js_svg_and_txt_files_are_served() -> None:
    kinds = {path.suffix for path in (ROOT / "hello_login/web/static").iterdir()}
    assert kinds == {".css", ".js", ".svg", ".txt"}


def test_the_configuration_page_lists_every_setting_or_its_variable() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    listed = dict(re.findall(rf"^\| `{re.escape(PREFIX)}(\w+)` \| (.*?) ?\|", page, re.MULTILINE))
    variables = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    settings = dataclasses.fields(Settings)
    for each in settings:
        assert each.name in listed or ENVIRONMENT.get(each.name) in variables, each.name
    assert list(listed) == [each.name for each in settings if each.name in listed]
    for each in settings:
        if isinstance(each.default, int):
            assert listed[each.name] == str(each.default).lower()


def test_the_architecture_lists_every_url() -> None:
    routes = (ROOT / "hello_login/web/routes.py").read_text()
    urls = set(re.findall(r'add_route\("\w+", "(/[^"]*)"\)', routes))
    table = (ROOT / "docs/architecture.md").read_text().partition("| URL |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(/[^`]*)`", table)) == urls


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_name_only_make_targets_that_exist(name: str) -> None:
    named = set(re.findall(r"`make ([a-z-]+)|^\$ make ([a-z-]+)", (ROOT / name).read_text(), re.M))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def test_no_test_module_imports_from_another() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert not re.findall(r"^(?:from|import) .*\btest_\w+", path.read_text(), re.MULTILINE), (
            path
        )


@pytest.mark.slow
def test_the_suite_passes_where_signals_are_ignored_as_under_nohup() -> None:
    ignored = "trap '' HUP INT QUIT TERM CHLD; exec \"$@\""
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/server/test_server.py")
    result = subprocess.run(
        ["sh", "-c", ignored, "sh", sys.executable, *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_of_the_documents_lead_to_files_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
        assert target.startswith("https://") or (ROOT / name).parent.joinpath(target).exists()
