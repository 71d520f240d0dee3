"""The samples of the metrics at /metrics, as tests read them."""

from prometheus_client.parser import text_string_to_metric_families

TOKEN = "0123456789abcdef0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

Samples = dict[tuple[str, ...], float]


def parse(text: str) -> Samples:
    """Return the value of each sample by its name and, in order of the labels, their values."""
    return {
        (sample.name.removeprefix("hello_login_"), *dict(sorted(sample.labels.items())).values()): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
