"""Compare hello_login with products and with the machine's limits.  With --quick, only print."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
import uvloop

from hello_login.dev.embedded import EmbeddedPostgres

from .contenders import COSTS, LIMITS, LOWEST_COSTS, PRODUCTS, ROOT, Server
from .load import USERS, WORKLOADS
from .measuring import CORES, compare, cpu_ms, measure_argon2, measure_pgbench
from .report import Results, draw, spread, write_table

PAGE, PICTURE = ROOT / "docs/performance.md", ROOT / "bench/results/picture.svg"
BEGIN, END = "<!-- make bench writes from here -->\n", "<!-- to here -->\n"


def log_step(text: str) -> str:
    """Print the next step with the time, and return it."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    return text


def describe(others: float) -> str:
    """Return a sentence with the time, the commit, the machine and the cores that others used.

    others: their share of all cores.
    """
    git = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*")
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    return (
        f"Measured on {time.strftime('%Y-%m-%d at %H:%M')} at commit {commit}: {names[0]}, {CORES} "
        f"cores, Python {sys.version.split()[0]}; other work used {others:.0%} of them meanwhile."
    )


@contextmanager
def running(servers: list[Server], *, relayed: bool = False) -> Iterator[list[float]]:
    """Start servers, yield the seconds that each took, and stop them."""
    with ExitStack() as stack:
        took = []
        for each in servers:
            took.append(each.start(relayed=relayed))
            stack.callback(each.stop)
        yield took


def measure(url: str, scratch: Path, *, quick: bool) -> Results:
    """Run all measurements in order, and return their results."""
    starts, rounds, runs, seconds = (1, 1, 1, 0.4) if quick else (3, 5, 10, 0.8)
    results, before = Results(), psutil.cpu_times()
    log_step(f"Databases with {USERS:,} accounts")
    products = [Server(each, url, scratch, COSTS) for each in PRODUCTS]
    cheap = [Server(each, url, scratch, LOWEST_COSTS) for each in PRODUCTS]
    limits = [Server(each, url, scratch, COSTS) for each in LIMITS]
    pid = (scratch / "postgres/cluster/postmaster.pid").read_text().split()[0]
    postgres = psutil.Process(int(pid))
    do = partial(compare, postgres=postgres, rounds=rounds, seconds=seconds)
    log_step("Cold starts")
    cold_starts = []
    for _ in range(starts):
        with running(products) as took:
            cold_starts.append(took)
    results.others["cold start, s"] = [spread(each) for each in zip(*cold_starts, strict=True)]
    log_step("Limits")
    with running(limits):
        for each, did in zip(LIMITS, do(limits, "greeting, JSON"), strict=True):
            times = spread([one.cpu for one in did])
            results.limits.append(f"{each.name} on waitress takes {times} ms for a greeting")
    found = measure_pgbench(products[0].url, scratch / "lookup.sql")
    results.limits.append(f"pgbench finds {found:,.0f} accounts per second")
    with running(products):
        for workload in map(log_step, WORKLOADS):
            results.workloads[workload] = do(products, workload)
        results.others["memory after the load, MiB"] = [f"{each.memory():.0f}" for each in products]
        for clients in (4, 8, 64):
            name = log_step(f"POST login, {clients} clients")
            rates = results.argon2[name] = []
            beside = partial(measure_argon2, rates, seconds)
            done = do(products, "POST login", rounds=runs, clients=clients, beside=beside)
            results.workloads[name] = done
    results.limits.append(f"argon2 verifies {spread(rates, 0)} passwords per second on all cores")
    with running(cheap):
        for workload in ("POST login", "POST register"):
            name = log_step(f"{workload} less argon2")
            results.workloads[name] = do(cheap, workload)
    with running(products, relayed=True):
        for delay in (0, 1, 5):
            for server in products:
                server.relay.delay = delay / 1000
            name = log_step(f"POST login, 1 client, PostgreSQL {delay} ms away")
            results.workloads[name] = do(products, "POST login", clients=1)
    user, nice, system, *rest = (b - a for a, b in zip(before, psutil.cpu_times(), strict=True))
    own = sum(psutil.Process().cpu_times()[:4]) + cpu_ms(postgres) / 1000
    others = user + nice + system - own
    results.machine = describe(others / (user + nice + system + sum(rest[:5])))
    return results


def main() -> None:
    """Measure, print the table, and without --quick replace the table and the picture."""
    quick = sys.argv[1:] == ["--quick"]
    uvloop.install()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # As root, PostgreSQL runs as another user, who must be able to enter the folder.
        Path(folder).chmod(0o755)
        database = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            results = measure(database.start(), Path(folder), quick=quick)
        finally:
            database.stop()
    table = write_table(results)
    sys.stdout.write(table)
    if not quick:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}")
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(draw(results))


if __name__ == "__main__":
    main()
