"""Writes the results as tables and as a plot."""

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

from . import contenders
from .contenders import BARE, BARE_SAME_SERVER, DJANGO, FLASK, FLASK_SYNC, HELLO_LOGIN, WSGI_PEERS
from .measuring import CLIENTS, Measured

mpl.use("svg")

US = HELLO_LOGIN.name
FLASKS = (FLASK.name, FLASK_SYNC.name)
OTHERS = tuple(each.name for each in WSGI_PEERS)

VARIANTS = (
    ("1 client", 1, True),
    ("64 clients", 64, True),
    ("8 clients, new connections", 8, False),
)

Ratios = Sequence[float]


@dataclass
class Results:
    """All results, by workload and by the contender's name."""

    machine: Mapping[str, str]
    users: tuple[int, int]
    argon2: list[float] = field(default_factory=list)
    pgbench: list[float] = field(default_factory=list)
    cold_starts: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    rates: dict[str, dict[str, Measured]] = field(default_factory=dict)
    variants: dict[tuple[str, str], dict[str, Measured]] = field(default_factory=dict)
    processes: dict[str, Measured] = field(default_factory=dict)
    sizes: dict[str, dict[str, Measured]] = field(default_factory=dict)
    round_trips: dict[str, dict[str, float]] = field(default_factory=dict)


def ratios(above: Sequence[float], below: Sequence[float]) -> Ratios:
    """Return the ratios by round, because the values of one round were measured side by side."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(numbers: Ratios, form: str = "{:.2f}") -> str:
    """Return the median with the minimum and the maximum, as a text."""
    texts = [form.format(each) for each in (statistics.median(numbers), min(numbers), max(numbers))]
    return texts[0] if len(numbers) == 1 else "{} ({} to {})".format(*texts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        lines.append("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
    return "\n".join(lines)


def write(results: Results, folder: Path, page: Path) -> str:
    """Write the tables to the page, details.md and plot.svg to the folder; return the tables."""
    folder.mkdir(exist_ok=True)
    described = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    few, many = results.users
    text = (
        f"On one machine ({described}), clients included, in one run; {many:,} users with "
        f"three sessions each; {contenders.PROCESSES} processes of {contenders.THREADS} threads, "
        f"{CLIENTS} clients; {len(results.argon2)} rounds.\n"
        f"\n**Requests per second, as multiples of hello_login's** ({CAPTION}):\n\n"
        f"{rates_table(results)}\n"
        f"\n**The cost of a request to /account**, and of a start; the processor time is that of "
        f"the server's processes, not PostgreSQL's:\n\n{costs_table(results)}\n"
        f"\n**Goals:**\n\n{goals_table(results, few, many)}\n"
    )
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{text}{END}{after}")
    (folder / "details.md").write_text(details(results))
    plot(results, folder / "plot.svg")
    return text


BEGIN = "<!-- make bench writes from here -->\n"
END = "<!-- to here -->\n"
CAPTION = "less than 1 is slower; the medians of the rounds; in brackets the lowest and the highest"


def rates_table(results: Results) -> str:
    """Return a table with a row for each contender and a column for each workload."""
    names = list(results.rates["greeting, JSON"])
    rows = [["hello_login, requests per second"]]
    rows[0] += [f"{statistics.median(m[US].rates):,.0f}" for m in results.rates.values()]
    for name in names[1:]:
        cells = [
            spread(ratios(each[name].rates, each[US].rates)) if name in each else ""
            for each in results.rates.values()
        ]
        rows.append([name, *cells])
    argon2 = [""] * len(results.rates)
    argon2[list(results.rates).index("login")] = spread(
        ratios(results.argon2, results.rates["login"][US].rates)
    )
    rows.append(["argon2 by itself, all cores", *argon2])
    return table(["", *results.rates], rows)


def costs_table(results: Results) -> str:
    """Return a table with a row for each contender."""
    rows = []
    for name, measured in results.rates["/account"].items():
        resident, whole = results.memory[name]
        rows.append(
            [
                name,
                f"{measured.latency(0.5):.1f}",
                f"{measured.latency(0.99):.1f}",
                f"{measured.cpu_ms:.2f}",
                f"{results.round_trips[name]['/account']:g}",
                f"{measured.received:,.0f}",
                f"{resident:.0f}",
                f"{whole:.0f}",
                f"{statistics.median(results.cold_starts[name]):.2f}",
            ]
        )
    head = ["", "p50 ms", "p99 ms", "CPU ms", "SQL round trips", "bytes"]
    return table([*head, "MiB a process", "MiB in all", "cold start s"], rows)


SIGNS = {"at least": operator.ge, "at most": operator.le, "under": operator.lt}


def goals_table(results: Results, few: int, many: int) -> str:
    """Return a table with a row for each goal."""
    greeting, page = results.rates["greeting, JSON"], results.rates["/account"]
    login = results.rates["login"][US].rates
    best_flask = max(FLASKS, key=lambda name: statistics.median(greeting[name].rates))
    best_peer = max(OTHERS, key=lambda name: statistics.median(page[name].rates))
    starts, memory = results.cold_starts, results.memory
    lightest = min((*FLASKS, DJANGO.name), key=lambda name: memory[name][0])
    fastest = min((*FLASKS, DJANGO.name), key=lambda name: statistics.median(starts[name]))
    goals: list[tuple[str, str, float, Ratios]] = [
        (
            "greeting / bare function, our server",
            "at least",
            0.85,
            ratios(greeting[US].rates, greeting[BARE_SAME_SERVER.name].rates),
        ),
        (
            "greeting / bare function, waitress",
            "at least",
            0.85,
            ratios(greeting[US].rates, greeting[BARE.name].rates),
        ),
        (
            f"greeting / best Flask ({best_flask})",
            "at least",
            1.5,
            ratios(greeting[US].rates, greeting[best_flask].rates),
        ),
        (
            f"/account / best WSGI peer ({best_peer})",
            "at least",
            1.5,
            ratios(page[US].rates, page[best_peer].rates),
        ),
        ("SQL round trips of /account", "at most", 3.0, [results.round_trips[US]["/account"]]),
        ("/account / greeting", "at least", 0.5, ratios(page[US].rates, greeting[US].rates)),
        ("login / argon2 on all cores", "at least", 0.95, ratios(login, results.argon2)),
        *(
            (
                f"{workload}, {many:,} users / {few:,}",
                "at least",
                0.95,
                ratios(measured["many"].rates, measured["few"].rates),
            )
            for workload, measured in results.sizes.items()
        ),
        (
            "greeting, 2 processes / 1",
            "at least",
            1.7,
            ratios(*(results.processes[n].rates for n in (US, contenders.ONE_PROCESS.name))),
        ),
        (f"cold start / {fastest}", "under", 1.0, ratios(starts[US], starts[fastest])),
        (
            f"MiB a process / {lightest}",
            "under",
            1.0,
            [memory[US][0] / memory[lightest][0]],
        ),
    ]
    rows = []
    for name, sign, goal, reached in goals:
        holds = SIGNS[sign](statistics.median(reached), goal)
        rows.append([name, f"{sign} {goal:g}", spread(reached), "yes" if holds else "no"])
    return table(["", "goal", "reached", ""], rows)


def details(results: Results) -> str:
    """Return the details: each workload by contender, memory and cold starts."""
    parts = [
        f"argon2 by itself, all cores: {spread(results.argon2, '{:.1f}')} a second.",
        f"PostgreSQL by itself, finding sessions: {spread(results.pgbench, '{:,.0f}')} a second.",
    ]
    titled = [(workload, workload, each) for workload, each in results.rates.items()]
    titled += [(f"{w}: {title}", w, each) for (w, title), each in results.variants.items()]
    titled.append(("greeting, JSON: 16 clients", "greeting, JSON", results.processes))
    titled += [(f"{w}: {results.users} users", w, each) for w, each in results.sizes.items()]
    for title, workload, every in titled:
        rows = [
            [
                name,
                spread(measured.rates, "{:,.0f}"),
                f"{measured.latency(0.5):.2f}",
                f"{measured.latency(0.99):.2f}",
                f"{measured.cpu_ms:.3f}",
                f"{measured.received:,.0f}",
                f"{trips:.3g}" if trips is not None else "",
            ]
            for name, measured in every.items()
            for trips in [results.round_trips.get(name, {}).get(workload)]
        ]
        head = ["", "requests/s", "p50 ms", "p99 ms", "CPU ms", "bytes", "SQL round trips"]
        parts.append(f"### {title}\n\n{table(head, rows)}")
    memory = [
        [name, f"{resident:.1f}", f"{whole:.1f}", spread(results.cold_starts[name])]
        for name, (resident, whole) in results.memory.items()
    ]
    head = ["", "MiB a process (RSS)", "MiB in all (PSS)", "cold start s"]
    parts.append(f"### Memory after the load, and cold starts\n\n{table(head, memory)}")
    return "\n\n".join(parts) + "\n"


def plot(results: Results, path: Path) -> None:
    """Draw a bar for each contender, in a group for each workload, as multiples of hello_login."""
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "hello_login"
    shown = ["greeting, JSON", "greeting, page", "/account", "login", "journey"]
    names = list(results.rates["/account"])
    figure, axes = plt.subplots(figsize=(9, 4.2))
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        medians, below, above = [], [], []
        for workload in shown:
            every = results.rates[workload]
            found = ratios(every[name].rates, every[US].rates)
            medians.append(statistics.median(found))
            below.append(medians[-1] - min(found))
            above.append(max(found) - medians[-1])
        places = [group + position * width for group in range(len(shown))]
        axes.bar(places, medians, width, yerr=(below, above), label=name, capsize=2)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_xticks([group + 0.4 - width / 2 for group in range(len(shown))], shown)
    axes.set_ylabel("requests per second, hello_login = 1")
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
