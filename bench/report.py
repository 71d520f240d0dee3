"""Write the results as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .contenders import PRODUCTS
from .measuring import Round

COLOURS = ("#9ecae1", "#4292c6", "#084594")
SHOWN = ("greeting, JSON", "greeting, page", "GET login", "GET account", "POST login less argon2")


@dataclass
class Results:
    """All results; hello_login's are the first of each list."""

    machine: str = ""
    workloads: dict[str, list[list[Round]]] = field(default_factory=dict)
    argon2: dict[str, list[float]] = field(default_factory=dict)
    """Passwords verified per second in each round beside a workload."""

    limits: list[str] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)


def spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Return the median with the lowest and the highest number, as text."""
    low, middle, high = min(numbers), median(numbers), max(numbers)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def ratio(rounds: list[Round], ours: list[Round]) -> float:
    """Return the processor time of a request, as a multiple of hello_login's in the same round."""
    return median(a.cpu / b.cpu for a, b in zip(rounds, ours, strict=True))


def column(rounds: list[Round], ours: list[Round], argon2: list[float]) -> list[str]:
    """Return the cells of a contender for a workload."""
    server, postgres = median(e.server for e in rounds), median(e.postgres for e in rounds)
    time = f"{server:.2f} + {postgres:.2f} = {spread([each.cpu for each in rounds])}"
    every = sorted(latency for each in rounds for latency in each.latencies)
    p50, p99 = (every[int(len(every) * share)] * 1000 for share in (0.5, 0.99))
    cells = [f"{time}, {ratio(rounds, ours):.1f}x", spread([each.rate for each in rounds], 0)]
    cells.append(f"{p50:.1f} / {p99:.1f}")
    pairs = zip(rounds, argon2, strict=False)
    if shares := [each.rate / most / (1 - each.clients) for each, most in pairs]:
        cells.append(spread(shares))
    elif rounds[0].round_trips:
        cells.append(f"{median(each.round_trips for each in rounds):.1f}")
    return cells


def write_table(results: Results) -> str:
    """Return the table with a column for each product, and the sentences before and after it."""
    names = [each.name for each in PRODUCTS]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    for workload, measured in results.workloads.items():
        argon2 = results.argon2.get(workload, [])
        columns = [column(rounds, measured[0], argon2) for rounds in measured]
        last = "share of argon2" if argon2 else "round trips"
        titles = ("processor time, ms", "per second", "p50 / p99, ms", last)
        found = [list(row) for row in zip(titles, *columns, strict=False)]
        found[0][0] = f"**{workload}**: {found[0][0]}"
        rows += found
    rows += [[f"**{title}**", *cells] for title, cells in results.others.items()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([results.machine, "", *lines, "", f"Limits: {'; '.join(results.limits)}.", ""])


def draw(results: Results) -> str:
    """Return an SVG with a bar for each product, as a multiple of hello_login's processor time."""
    title = "Processor time of a request, as a multiple of hello_login's (red line)"
    parts = [f'<text y="14">{title}</text>']
    y = 30
    for workload in SHOWN:
        parts.append(f'<text y="{y + 27}">{workload}</text>')
        ours, *others = results.workloads[workload]
        for product, rounds, colour in zip(PRODUCTS[1:], others, COLOURS, strict=True):
            times = ratio(rounds, ours)
            end, text = 170 + 36 * times, f"{product.name} {times:.1f}"
            parts.append(f'<path d="M170 {y}H{end:.0f}v13H170" fill="{colour}"/>')
            parts.append(f'<text x="{end + 5:.0f}" y="{y + 11}">{text}</text>')
            y += 15
        y += 12
    parts.append(f'<path d="M206 24V{y - 8}" stroke="#d62728"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 0 800 {y}" font-family="sans-serif"'
    )
    background = ' font-size="13"><path d="M-8 0H800V999H-8" fill="#fff"/>'
    return "\n".join([head + background, *parts, "</svg>", ""])
