"""Measures several servers in turn with one workload."""

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
    """The sizes of all measurements."""

    users: int
    few_users: int = 1_000
    rounds: int = 5
    seconds: float = 0.8
    cold_starts: int = 3
    variants: bool = True
    """Whether to measure also with 1 and 64 clients, and with a new connection for each request."""


FULL = Plan(users=1_000_000)
QUICK = Plan(users=20_000, rounds=1, seconds=0.6, cold_starts=1, variants=False)
CLIENTS = 8


@dataclass
class Measured:
    """The results of one contender with one workload, by round."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Return the requests per second of each round."""
        return [each.rate for each in self.loads]

    def latency(self, share: float) -> float:
        """Return the milliseconds within which this share of the requests was answered."""
        every = sorted(latency for each in self.loads for latency in each.latencies)
        return every[min(int(len(every) * share), len(every) - 1)] * 1000

    @property
    def cpu_ms(self) -> float:
        """Return the median processor time of a request, in milliseconds, of all processes."""
        return statistics.median(self.cpu)

    @property
    def received(self) -> float:
        """Return the mean number of bytes of a response, with its headers."""
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
    """Measure a workload on the servers in turn, once a round.

    beside: is called at the end of each round.
    """
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
                # Chance decides which process serves a connection, so each round opens new ones.
                crowd.close()
            if number > 0 and beside is not None:
                beside()

    asyncio.run(run())
    return measured


def count_round_trips(
    contender: Contender, url: str, users: int, scratch: Path
) -> dict[str, float]:
    """Return how often a request of each workload waits for PostgreSQL after a warm-up."""
    relay = RoundTrips(url)
    server = Server(contender, relay.url, scratch)
    counted: dict[str, float] = {}

    async def run(workload: str) -> None:
        crowd = Crowd(Site(server.port, users, data.PASSWORD), workload, 1)
        # Its first requests make each process open connections and prepare statements.
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
    """Return the workloads that the contender has routes for."""
    return ["greeting, JSON"] if contender.greets_only else list(load.WORKLOADS)
