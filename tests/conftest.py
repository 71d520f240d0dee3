"""A real PostgreSQL with the real migrations; each test's transaction is rolled back."""

import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import plaster.loaders
import psycopg2
import pytest
import transaction
import webtest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login import settings
from hello_login.auth.audit import Actor
from hello_login.auth.clients import Client
from hello_login.auth.passwords import Passwords
from hello_login.db import migrations, transactions
from hello_login.db.batching import BatchingConnection
from hello_login.db.standbys import is_broken
from hello_login.dev import embedded
from hello_login.dev.embedded import EmbeddedPostgres
from hello_login.repositories.events import Event
from tests.pooler import PgBouncer, alter_role
from tests.rows import empty_tables, execute
from tests.visitor import Visitor

ROOT = Path(__file__).parent.parent
SECRET_KEY = "a-secret-key-of-the-tests-quite-long-enough"
STILL_CLOCK = """
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz STABLE RETURN now()
"""
"""Stops the clock during a transaction, where the search path has public before pg_catalog."""

CHEAP_HASHES = {"hello_login.argon2_memory_kib": "8", "hello_login.argon2_passes": "1"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option that puts a pooler in front of PostgreSQL."""
    help_text = "applications reach PostgreSQL through PgBouncer in this mode"
    parser.addoption("--pooler", choices=["session", "transaction"], help=help_text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --pooler, skip the tests that hold only without a pooler."""
    if config.getoption("--pooler"):
        for item in items:
            for marker in item.iter_markers("direct"):
                item.add_marker(pytest.mark.skip(f"not through a pooler: {marker.args[0]}"))


@pytest.fixture(scope="session", autouse=True)
def _no_environment() -> Iterator[None]:
    """Hide the environment of the caller from the tests; production needs TRUSTED_PROXY."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in (*settings.ENVIRONMENT.values(), "PORT"):
            patch.delenv(variable, raising=False)
        patch.setenv("TRUSTED_PROXY", "none")
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_ignored_signals() -> Iterator[None]:
    """Handle the signals that nohup, or a shell's background job, has set to be ignored.

    A program that a test starts inherits an ignored signal, but not a handler.  The suite itself
    still survives a hangup.
    """
    handlers: dict[signal.Signals, Any] = {
        signal.SIGHUP: lambda *_: None,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGCHLD: signal.SIG_DFL,
    }
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def _known_distributions() -> Iterator[None]:
    """Read the installed distributions once: plaster reads them again for each .ini file."""
    known = [
        SimpleNamespace(metadata=each.metadata, entry_points=each.entry_points)
        for each in metadata.distributions()
    ]
    remembered = SimpleNamespace(**{**vars(metadata), "distributions": lambda: known})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plaster.loaders, "metadata", remembered)
        yield


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Start PostgreSQL for the test run, and yield its URL."""
    folder = Path(tempfile.mkdtemp(prefix="hello_login-tests-"))
    server = EmbeddedPostgres(folder, fsync=False)
    try:
        yield server.start()
    finally:
        # The data is thrown away, so nothing has to be written to disk.
        server._run("pg_ctl", "stop", "-D", server._cluster, "-m", "immediate")
        server.stop()
        # Deleting hundreds of databases takes seconds, so this does not wait for it.
        os.posix_spawnp("rm", ["rm", "-rf", str(folder)], os.environ)


@contextlib.contextmanager
def make_folder() -> Iterator[Path]:
    """Yield a folder that every user can access, unlike tmp_path, with a space in its name."""
    with tempfile.TemporaryDirectory(prefix="hello login-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def replace_time(patch: pytest.MonkeyPatch, module: ModuleType, **functions: Any) -> None:
    """Replace functions of time in one module only: threads of other modules use time, too."""
    patch.setattr(module, "time", SimpleNamespace(**{**vars(time), **functions}))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder for this test only."""
    with make_folder() as folder:
        yield folder


@pytest.fixture
def development_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the path for a development database, and stop the database after the test."""
    started = contextlib.ExitStack()
    monkeypatch.setattr(embedded, "at_exit", started)
    yield folder / ".postgres"
    started.close()


@pytest.fixture(scope="session")
def through_pooler(server_url: str, pytestconfig: pytest.Config) -> Iterator[Callable[[str], str]]:
    """Yield a function that leads a URL through the pooler of --pooler, if there is one."""
    mode = pytestconfig.getoption("--pooler")
    if mode is None:
        yield str
        return
    # Nothing is left of a transaction in its session, and hundreds of databases are idle.
    strict = {"server_reset_query_always": 1, "server_idle_timeout": 1, "max_client_conn": 1000}
    with closing(PgBouncer(server_url, mode, default_pool_size=60, **strict)) as pooler:

        def lead(url: str) -> str:
            if pooler.url(url) != url:
                alter_role(url)
            return pooler.url(url)

        yield lead


NewDatabase = Callable[..., str]


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Iterator[NewDatabase]:
    """Yield a function that makes an empty database, or a copy of one, and returns its URL."""
    connection = psycopg2.connect(server_url)
    connection.autocommit = True

    def create(template: str = "template1") -> str:
        name = f"test_{secrets.token_hex(4)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with connection.cursor() as cursor:
            cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return server_url.replace("/postgres?", f"/{name}?")

    yield create
    connection.close()


@pytest.fixture(scope="session")
def migrated(new_database: NewDatabase) -> str:
    """Return the name of a migrated database that serves only as a template for copies."""
    url = new_database()
    list(migrations.migrate(url, ROOT / "sql"))
    return url.rpartition("/")[2].partition("?")[0]


@pytest.fixture(scope="session")
def database_url(new_database: NewDatabase, migrated: str) -> str:
    """Return the URL of a migrated database, which no test commits to."""
    url = new_database(migrated)
    with closing(psycopg2.connect(url)) as connection:
        execute(connection, STILL_CLOCK)
        name = connection.info.dbname
        execute(connection, f"ALTER DATABASE {name} SET search_path TO public, pg_catalog")
        connection.commit()
    return url


@pytest.fixture
def print_figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that prints a measured figure despite pytest's capture."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n  {text}\n")  # xdist drops the standard output of its processes

    return write


@pytest.fixture
def url(new_database: NewDatabase, migrated: str) -> str:
    """Return the URL of a migrated database for this test only, which may commit to it."""
    return new_database(migrated)


@pytest.fixture(scope="session")
def shared_url(new_database: NewDatabase, migrated: str) -> str:
    """Return the URL of a migrated database, to which many tests commit."""
    return new_database(migrated)


@pytest.fixture
def emptied_url(shared_url: str) -> str:
    """Return shared_url, after emptying the database: much faster than a database of its own.

    A test that changes the schema needs a database of its own.
    """
    empty_tables(shared_url)
    return shared_url


@pytest.fixture
def database(url: str) -> Iterator[Connection]:
    """Yield a connection to the test's database that commits each statement."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        yield connection


class Uncommitted(BatchingConnection):
    """A connection that never commits, so that each test finds the database empty."""

    def commit(self) -> None:
        """Execute the waiting statements only, so that rate limits are rolled back, too."""
        self.flush()

    def rollback(self) -> None:
        """Drop the waiting statements, and roll back what psycopg2 has begun."""
        self.waiting = []
        Connection.rollback(self)


@pytest.fixture(scope="session")
def idle_connections() -> Iterator[list[Connection]]:
    """Yield the list of connections that the next test may use, because opening one takes ms."""
    idle: list[Connection] = []
    yield idle
    for connection in idle:
        connection.close()


@pytest.fixture
def db(
    database_url: str,
    idle_connections: list[Connection],
    through_pooler: Callable[[str], str],
    pytestconfig: pytest.Config,
) -> Iterator[Connection]:
    """Yield a connection whose transaction is rolled back.

    Its clock stands still, so that a wait is as long at the end of a slow test as when it began.
    """
    if idle_connections:
        connection = idle_connections.pop()
    else:
        url = through_pooler(database_url)
        connection = psycopg2.connect(url, connection_factory=Uncommitted)
        if pytestconfig.getoption("--pooler") == "transaction":
            connection.prepared = None
    yield connection
    if not is_broken(connection):
        connection.rollback()
        idle_connections.append(connection)


@pytest.fixture
def running_clock(db: Connection) -> None:
    """Let the clock of db run, so that two changes of a test are made at different times."""
    execute(db, "SET LOCAL search_path TO public")  # PostgreSQL's own functions come first


MakeIni = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def ini(
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    through_pooler: Callable[[str], str],
    pytestconfig: pytest.Config,
) -> MakeIni:
    """Return a function that makes [app:main] for the tests; its arguments override values."""

    # Many tests make an application of their own: the templates are compiled once for all.
    compiled = tmp_path_factory.mktemp("templates")
    mode = pytestconfig.getoption("--pooler") or "session"

    def make(*, database_url: str = database_url, **changes: str) -> dict[str, str]:
        return {
            "jinja2.bytecode_caching": "true",
            "jinja2.bytecode_caching_directory": str(compiled),
            "hello_login.database_url": through_pooler(database_url),
            "hello_login.database_pooler": mode,
            "hello_login.secret_key": SECRET_KEY,
            "hello_login.migrations": str(ROOT / "sql"),
            "hello_login.secure_cookies": "false",
            **CHEAP_HASHES,
            **{f"hello_login.{name}": value for name, value in changes.items()},
        }

    return make


@pytest.fixture(scope="session")
def passwords(ini: MakeIni) -> Passwords:
    """Return Passwords with the lowest costs that argon2 allows."""
    return Passwords(settings.load({}, ini(), {}))


@pytest.fixture
def logged_events() -> list[Event]:
    """Return the list to which events are logged."""
    return []


CLIENT = Client("192.0.2.1", "Firefox on Linux")
OpenVisitor = Callable[..., Visitor]


@pytest.fixture
def open_visitor(db: Connection, passwords: Passwords, logged_events: list[Event]) -> OpenVisitor:
    """Return a function that makes a visitor for a client."""

    def make(client: Client = CLIENT, *, db: Connection = db, **more: Passwords) -> Visitor:
        actor = Actor(db, client, logged_events.append)
        return Visitor(actor, more.get("passwords", passwords), SECRET_KEY)

    return make


@pytest.fixture
def visitor(open_visitor: OpenVisitor) -> Visitor:
    """Return the visitor for CLIENT."""
    return open_visitor()


@pytest.fixture(scope="session")
def app(ini: MakeIni) -> Any:
    """Return the application with the cookies of development.ini."""
    return hello_login.main({}, **ini())


@pytest.fixture(scope="session")
def production_app(ini: MakeIni) -> Any:
    """Return the application with the cookies of production.ini."""
    return hello_login.main({}, **ini(secure_cookies="true"))


OpenBrowser = Callable[..., webtest.TestApp]


@pytest.fixture
def open_browser(db: Connection, app: Any) -> Iterator[OpenBrowser]:
    """Yield a function that opens a browser; all share one transaction, which never commits.

    An error does not abort the transaction, so that tests see the rows of a failed request.
    """
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    manager.doom()
    environ = {
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "text/html",
        "REMOTE_ADDR": "192.0.2.1",
        "tm.active": True,
        "tm.manager": manager,
        transactions.ENVIRON_KEY: db,
    }

    def make(application: Any = app, **more: str) -> webtest.TestApp:
        return webtest.TestApp(application, extra_environ={**environ, **more})

    yield make
    manager.abort()


@pytest.fixture
def browser(open_browser: OpenBrowser) -> webtest.TestApp:
    """Return a browser."""
    return open_browser()
