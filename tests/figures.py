"""The figures of /metrics, as tests read them."""

from prometheus_client.parser import text_string_to_metric_families

TOKEN = "0123456789abcdef0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

Figures = dict[tuple[str, ...], float]


def parse(text: str) -> Figures:
    """Return the figures by the name of a sample and, in order, the values of its labels."""
    return {
        (sample.name.removeprefix("hello_login_"), *dict(sorted(sample.labels.items())).values()): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
