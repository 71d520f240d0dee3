"""Measure hello_login against alternatives and against the limits of the machine.

All servers run on one machine in one run, in turn, so that a disturbance affects all of them.  Only
the ratios are meaningful.  Prints the tables and writes them into docs/performance.md; writes a
plot and all details to bench/results/.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import uvloop

from hello_login.dev.embedded import EmbeddedPostgres

from . import contenders, data, limits, load, report
from .contenders import CONTENDERS, HELLO_LOGIN, ONE_PROCESS, Contender, Server
from .measuring import (
    CLIENTS,
    FULL,
    QUICK,
    Plan,
    compare,
    count_round_trips,
    workloads,
)


def log_step(text: str) -> None:
    """Print the next step with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def measure(plan: Plan, base: str | None, scratch: Path, stack: ExitStack) -> report.Results:
    """Run all measurements in order, and return their results."""
    few, many = create_databases(plan, scratch, stack)
    results = report.Results(machine=contenders.machine(), users=(plan.few_users, plan.users))
    log_step("The limits")
    results.pgbench = [
        limits.pgbench_rate(many, plan.users, scratch, 2) for _ in range(plan.rounds)
    ]
    main = [*CONTENDERS, *base_contenders(base, scratch, stack)]
    log_step("Cold starts")
    running = start(results, [*main, ONE_PROCESS], many, plan, scratch, stack)
    measure_workloads(results, main, running, plan)

    log_step("One process, and two")
    pair = [(each.name, running[each.name], plan.users) for each in (ONE_PROCESS, HELLO_LOGIN)]
    results.processes = compare(pair, "greeting, JSON", plan, clients=16)

    log_step("Few users, and many")
    small = Server(HELLO_LOGIN, few, scratch)
    stack.callback(small.stop)
    sizes = [("few", small, plan.few_users), ("many", running[HELLO_LOGIN.name], plan.users)]
    for workload in ("/account", "login"):
        results.sizes[workload] = compare(sizes, workload, plan)

    log_step("Round trips to PostgreSQL")
    for each in main:
        if not each.greets_only:
            results.round_trips[each.name] = count_round_trips(each, many, plan.users, scratch)
    return results


def start(
    results: report.Results,
    every: list[Contender],
    url: str,
    plan: Plan,
    scratch: Path,
    stack: ExitStack,
) -> dict[str, Server]:
    """Measure the cold starts of all contenders in turn; return the servers of the last round."""
    running = {}
    for number in range(plan.cold_starts):
        for each in every:
            server = Server(each, url, scratch)
            results.cold_starts.setdefault(each.name, []).append(server.cold_start)
            if number < plan.cold_starts - 1:
                server.stop()
            else:
                running[each.name] = server
                stack.callback(server.stop)
    return running


def measure_workloads(
    results: report.Results, main: list[Contender], running: dict[str, Server], plan: Plan
) -> None:
    """Measure each workload; two of them also with 1 and 64 clients and without keep-alive."""

    def taking(workload: str) -> list[tuple[str, Server, int]]:
        names = [each.name for each in main if workload in workloads(each)]
        return [(name, running[name], plan.users) for name in names]

    def argon2() -> None:
        results.argon2.append(limits.argon2_rate(plan.seconds))

    for workload in load.WORKLOADS:
        log_step(f"{workload}: {CLIENTS} clients")
        results.rates[workload] = compare(
            taking(workload), workload, plan, beside=argon2 if workload == "login" else None
        )
    results.memory = {each.name: running[each.name].memory() for each in main}
    for workload in ("greeting, JSON", "/account") if plan.variants else ():
        for title, clients, keep_alive in report.VARIANTS:
            log_step(f"{workload}: {title}")
            results.variants[workload, title] = compare(
                taking(workload), workload, plan, clients=clients, keep_alive=keep_alive
            )


def create_databases(plan: Plan, scratch: Path, stack: ExitStack) -> list[str]:
    """Create two databases, and return their URLs: one with few users, one with many."""
    server = EmbeddedPostgres(scratch / "postgres")
    url = server.start()
    stack.callback(server.stop)
    urls = []
    for users in (plan.few_users, plan.users):
        log_step(f"{users:,} users, each with {data.SESSIONS} sessions")
        urls.append(create_database(url, f"bench_{users}"))
        data.fill(urls[-1], contenders.ROOT / "sql", users)
        prepare_django(urls[-1])
    return urls


def create_database(url: str, name: str) -> str:
    """Create an empty database on the same server, and return its URL."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return url.replace("/postgres?", f"/{name}?")


def prepare_django(url: str) -> None:
    """Create the table that Django keeps its sessions in."""
    folder = contenders.HERE / "peers"
    environ = {"DATABASE_URL": url, "SECRET_KEY": "k" * 32}
    subprocess.run([sys.executable, "django_app.py"], cwd=folder, env=environ, check=True)


def base_contenders(base: str | None, scratch: Path, stack: ExitStack) -> list[Contender]:
    """Return hello_login at the commit base as a contender, or nothing if there is no base."""
    if base is None:
        return []
    folder = scratch / "base"
    git = ("git", "-C", contenders.ROOT, "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", folder, base], check=True)
    stack.callback(lambda: subprocess.run([*git, "remove", "--force", folder], check=True))
    before = Contender(
        f"hello_login at {base}",
        contenders.PSERVE,
        folder,
        (*HELLO_LOGIN.environ, ("PYTHONPATH", str(folder))),
    )
    return [before]


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer users and one short round")
    parser.add_argument("--base", metavar="COMMIT", help="compare with hello_login as it was then")
    arguments = parser.parse_args()
    uvloop.install()
    with ExitStack() as stack:
        # As root, PostgreSQL runs as another user, who must be able to enter the folder.
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        scratch.chmod(0o755)
        contenders.write_bare_ini(scratch)
        results = measure(QUICK if arguments.quick else FULL, arguments.base, scratch, stack)
    page = contenders.HERE.parent / "docs/performance.md"
    sys.stdout.write(report.write(results, contenders.HERE / "results", page))


if __name__ == "__main__":
    main()
