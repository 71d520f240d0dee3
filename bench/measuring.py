"""Several servers, one workload, in turn."""

import asyncio
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.functional.round_trips import RoundTrips

from . import data, load
from .contenders import Contender, Server
from .load import Crowd, Load, Site

WARM_UP = 0.4  # seconds


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    users: int
    few_users: int = 1_000
    rounds: int = 5
    seconds: float = 0.8
    cold_starts: int = 3
    variants: bool = True
    """Also 1 and 64 clients, and a new connection for each request."""


FULL = Plan(users=1_000_000)
QUICK = Plan(users=20_000, rounds=1, seconds=0.6, cold_starts=1, variants=False)
CLIENTS = 8


@dataclass
class Measured:
    """One contender with one workload, round by round."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Requests per second."""
        return [each.rate for each in self.loads]

    def latency(self, share: float) -> float:
        """The milliseconds within which this share of the requests was answered."""
        every = sorted(latency for each in self.loads for latency in each.latencies)
        return every[min(int(len(every) * share), len(every) - 1)] * 1000

    @property
    def cpu_ms(self) -> float:
        """Processor time of the server's processes for a request, in milliseconds."""
        return statistics.median(self.cpu)

    @property
    def received(self) -> float:
        """Bytes of an answer, with its head."""
        return sum(e.received for e in self.loads) / sum(len(e.latencies) for e in self.loads)


def compare(
    servers: Iterable[tuple[str, Server, int]],
    workload: str,
    plan: Plan,
    *,
    clients: int = CLIENTS,
    keep_alive: bool = True,
    beside: Callable[[], None] | None = None,
) -> dict[str, Measured]:
    """Measure one workload on some servers in turn, once a round; and what stands beside them."""
    crowds = {
        name: (
            server,
            Crowd(
                Site(server.port, users, data.PASSWORD), workload, clients, keep_alive=keep_alive
            ),
        )
        for name, server, users in servers
    }
    measured = {name: Measured() for name in crowds}

    async def run() -> None:
        for number in range(plan.rounds + 1):
            for name, (server, crowd) in crowds.items():
                if number == 0:
                    await crowd.run(WARM_UP)
                    continue
                before = server.cpu_seconds()
                seen = await crowd.run(plan.seconds)
                used = server.cpu_seconds() - before
                measured[name].loads.append(seen)
                measured[name].cpu.append(used / len(seen.latencies) * 1000)
                # Which process a connection is served by is luck: once more in each round.
                crowd.close()
            if number > 0 and beside is not None:
                beside()

    asyncio.run(run())
    return measured


def count_round_trips(
    contender: Contender, url: str, users: int, scratch: Path
) -> dict[str, float]:
    """How often a request of each workload waits for PostgreSQL, once everything is warm."""
    relay = RoundTrips(url)
    server = Server(contender, relay.url, scratch)
    counted: dict[str, float] = {}

    async def run(workload: str) -> None:
        crowd = Crowd(Site(server.port, users, data.PASSWORD), workload, 1)
        # Each process opens its connections, and prepares what it prepares, at its first requests.
        await crowd.run(1.0)
        counts = []
        for _ in range(9):
            before = relay.count
            seen = await crowd.run(0)
            counts.append((relay.count - before) / len(seen.latencies))
        counted[workload] = statistics.median(counts)
        crowd.close()

    for workload in workloads(contender):
        asyncio.run(run(workload))
    server.stop()
    relay.close()
    return counted


def workloads(contender: Contender) -> list[str]:
    """Those that it has routes for."""
    return ["greeting, JSON"] if contender.greets_only else list(load.WORKLOADS)
