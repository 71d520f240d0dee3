"""The files of the deployments agree with the project and each other."""

import json
import re
import shlex
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from hello_login import settings
from hello_login.web import hosts
from tests.conftest import ROOT

SCRIPTS = {entry.name for entry in distribution("hello_login").entry_points} | {"pserve"}
VARIABLES = {*settings.ENVIRONMENT.values(), "PORT", "MIGRATE", "DATABASE_WAIT"}


def read(name: str) -> str:
    return (ROOT / name).read_text()


DOCKERFILE = read("Dockerfile")
HEROKU = yaml.safe_load(read("heroku.yml"))
APP = json.loads(read("app.json"))
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.production.yml")
COMPOSE = {name: yaml.safe_load(read(name)) for name in COMPOSE_FILES}
KUBERNETES = {
    each["kind"]: each
    for path in sorted((ROOT / "deploy/kubernetes").iterdir())
    for each in yaml.safe_load_all(path.read_text())
}
POD, MIGRATION = (KUBERNETES[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "Job"))
WEB, MIGRATE = POD["containers"][0], MIGRATION["containers"][0]


def commands() -> dict[str, list[str]]:
    """Return the commands that start this project's programs, by the file that has them."""
    found = {
        "heroku.yml release": shlex.split(HEROKU["release"]["command"][0]),
        "heroku.yml run": shlex.split(HEROKU["run"]["web"]),
        "Dockerfile": json.loads(re.findall(r"^CMD (.*)", DOCKERFILE, re.MULTILINE)[-1]),
        "migrate.yaml": MIGRATE["args"],
    }
    for name, compose in COMPOSE.items():
        if "command" in compose["services"]["web"]:
            found[name] = compose["services"]["web"]["command"]
    return found


@pytest.mark.parametrize(("where", "command"), commands().items())
def test_every_command_is_a_console_script_with_an_ini_file_of_ours(
    where: str, command: list[str]
) -> None:
    program, ini, *arguments = command
    assert program in SCRIPTS, where
    assert (ROOT / ini).exists(), where
    defaults = dict(re.findall(r"^(http_\w+) =(.*)", read(ini), re.MULTILINE))
    for argument in arguments:
        if "=" in argument:
            assert argument.split("=")[0] in defaults, where


@pytest.mark.parametrize(
    ("where", "variables"),
    [
        ("app.json", APP["env"]),
        ("heroku.yml", HEROKU["setup"]["config"]),
        *((name, each["services"]["web"]["environment"]) for name, each in COMPOSE.items()),
        ("secret.yaml", KUBERNETES["Secret"]["stringData"]),
        ("web.yaml", {each["name"]: each["value"] for each in WEB["env"]}),
    ],
)
def test_deployment_files_set_only_variables_that_are_read(
    where: str, variables: dict[str, Any]
) -> None:
    assert set(variables) <= VARIABLES, where


def test_the_entrypoint_documents_its_variables() -> None:
    script = read("docker-entrypoint.sh")
    used = set(re.findall(r"\$\{([A-Z_]+)", script))
    assert (
        used
        == set(re.findall(r"^# ([A-Z_]+)  ", script, re.MULTILINE))
        == VARIABLES
        - {
            *settings.ENVIRONMENT.values(),
            "PORT",
        }
    )


def test_the_configuration_page_lists_every_variable() -> None:
    for variable in VARIABLES:
        assert f"| `{variable}` |" in read("docs/configuration.md")


def test_heroku_yml_and_app_json_agree() -> None:
    assert [addon["plan"] for addon in APP["addons"]] == [
        addon["plan"] for addon in HEROKU["setup"]["addons"]
    ]
    values = {name: each["value"] for name, each in APP["env"].items() if "value" in each}
    assert values == HEROKU["setup"]["config"]
    assert APP["env"]["SECRET_KEY"]["generator"] == "secret"
    assert APP["stack"] == "container"


def test_heroku_builds_the_one_dockerfile_and_serves_on_its_port() -> None:
    assert HEROKU["build"]["docker"] == {"web": "Dockerfile"}
    assert HEROKU["release"]["image"] in HEROKU["build"]["docker"]
    assert "http_port=$PORT" in HEROKU["run"]["web"]


def test_the_port_is_the_same_everywhere() -> None:
    port = str(settings.port({}, {}))
    assert re.search(rf"^EXPOSE {port}$", DOCKERFILE, re.MULTILINE)
    assert {"name": "http", "containerPort": int(port)} in WEB["ports"]
    assert f"os.environ.get('PORT', {port})" in DOCKERFILE
    web = COMPOSE["docker-compose.yml"]["services"]["web"]
    chosen = f"${{PORT:-{port}}}"
    assert web["environment"]["PORT"] == chosen
    assert web["ports"] == [f"127.0.0.1:{chosen}:{chosen}"]
    assert f"web:{port};" in read("proxy/nginx.conf")


@pytest.mark.parametrize("name", ["development.ini", "production.ini"])
def test_the_proxy_and_the_server_accept_bodies_of_the_same_size(
    name: str,
) -> None:
    (largest,) = re.findall(r"client_max_body_size (\d+);", read("proxy/nginx.conf"))
    # waitress refuses a body of max_request_body_size itself.
    refused = int(largest) + 1
    assert re.search(rf"^max_request_body_size = {refused}$", read(name), re.MULTILINE)


def test_the_proxy_hides_the_metrics_and_replaces_the_ids_that_clients_send() -> None:
    proxy = read("proxy/nginx.conf")
    assert re.search(r"^ +location = /metrics \{ return 404; \}$", proxy, re.MULTILINE)
    sent = dict(re.findall(r"proxy_set_header (\S+) +(\S+);", proxy))
    assert (sent["X-Request-ID"], sent["traceparent"]) == ("$request_id", '""')


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_publishes_only_the_site_and_only_on_this_machine(name: str) -> None:
    services = COMPOSE[name]["services"]
    assert "ports" not in services["db"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_in_production_passes_on_every_variable_that_does_not_concern_its_containers() -> (
    None
):
    belongs = {"PORT", "TRUSTED_PROXY_COUNT", "MIGRATE", "DATABASE_WAIT"}
    belongs |= {"DATABASE_POOLER", "DATABASE_DIRECT_URL"}
    passed = COMPOSE["docker-compose.production.yml"]["services"]["web"]["environment"]
    assert set(passed) == VARIABLES - belongs


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_keeps_the_data_in_a_named_volume(name: str) -> None:
    assert COMPOSE[name]["services"]["db"]["volumes"] == ["postgres_data:/var/lib/postgresql/data"]
    assert COMPOSE[name]["services"]["web"]["image"] == "hello_login"


def test_the_labels_of_the_image_are_those_of_the_package() -> None:
    package = distribution("hello_login").metadata
    fields = {
        "title": "Name",
        "description": "Summary",
        "version": "Version",
        "licenses": "License",
    }
    for label, field in fields.items():
        assert f'org.opencontainers.image.{label}="{package[field]}"' in DOCKERFILE


def test_every_copied_or_mounted_file_exists_and_is_in_the_build_context() -> None:
    copied = {
        Path(name)
        for names in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for name in names.split()
    }
    mounted = {
        Path(volume.split(":")[0])
        for volume in COMPOSE["docker-compose.yml"]["services"]["web"]["volumes"]
    }
    assert all((ROOT / path).exists() for path in copied | mounted)
    ignored = read(".dockerignore").splitlines()
    assert ignored[0] == "*"
    included = {Path(line[1:]) for line in ignored if line.startswith("!")}
    assert included == copied


def test_the_packages_of_the_image_are_pinned_and_hashed() -> None:
    requirements = re.split(r"\n(?=\S)", read("requirements.txt"))
    pinned = [each for each in requirements if not each.startswith("#")]
    assert all(re.match(r"[\w.-]+==\S+", each) for each in pinned)
    assert all("--hash=sha256:" in each for each in pinned)
    names = {re.split(r"==", each)[0].replace("-", "_").lower() for each in pinned}
    required = {
        re.split(r"[<>=; ]", each)[0].replace("-", "_").lower()
        for each in distribution("hello_login").requires or []
        if "extra ==" not in each
    }
    assert required <= names


def load_kubernetes(secret: dict[str, str]) -> settings.Settings:
    return settings.load({}, {}, secret | {each["name"]: each["value"] for each in WEB["env"]})


def test_kubernetes_sets_all_required_variables_and_its_placeholders_are_refused() -> None:
    secret = KUBERNETES["Secret"]["stringData"]
    with pytest.raises(SystemExit, match=r"(?s)^DATABASE_URL is.*\nSECRET_KEY is[^\n]*$"):
        load_kubernetes(secret)
    load_kubernetes(secret | {"DATABASE_URL": "postgresql://db/app", "SECRET_KEY": "k" * 32})


def test_kubernetes_migrates_with_the_image_and_the_settings_of_the_pods() -> None:
    version = distribution("hello_login").version
    assert WEB["image"] == MIGRATE["image"] == f"registry.example.org/hello_login:{version}"
    assert MIGRATE["args"] == shlex.split(HEROKU["release"]["command"][0])
    assert [*MIGRATE["env"], {"name": "MIGRATE", "value": "no"}] == WEB["env"]
    assert MIGRATE["envFrom"] == WEB["envFrom"]
    assert WEB["envFrom"] == [{"secretRef": KUBERNETES["Secret"]["metadata"]}]


def test_kubernetes_runs_the_image_as_its_user_without_privileges() -> None:
    user = ":".join(str(POD["securityContext"][key]) for key in ("runAsUser", "runAsGroup"))
    assert re.search(f"^USER {user}$", DOCKERFILE, re.MULTILINE)
    assert POD["securityContext"] == MIGRATION["securityContext"]
    assert POD["securityContext"]["runAsNonRoot"]
    assert WEB["securityContext"] == MIGRATE["securityContext"]
    assert WEB["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_kubernetes_asks_both_probes_and_waits_for_the_start_and_the_end() -> None:
    asked = {name: WEB[name]["httpGet"]["path"] for name in WEB if name.endswith("Probe")}
    assert set(asked) == {"startupProbe", "livenessProbe", "readinessProbe"}
    assert (asked["livenessProbe"], asked["readinessProbe"]) == hosts.PROBES[:2]
    assert asked["startupProbe"] == asked["livenessProbe"]
    startup = WEB["startupProbe"]["periodSeconds"] * WEB["startupProbe"]["failureThreshold"]
    (database_wait,) = re.findall(r"DATABASE_WAIT:-(\d+)", read("docker-entrypoint.sh"))
    assert startup > int(database_wait)
    _, before_stop = WEB["lifecycle"]["preStop"]["exec"]["command"]
    stop = int(before_stop) + settings.Settings.graceful_timeout
    assert POD["terminationGracePeriodSeconds"] > stop


def test_kubernetes_replaces_pods_without_taking_the_site_down() -> None:
    deployment, scaler = KUBERNETES["Deployment"]["spec"], KUBERNETES["HorizontalPodAutoscaler"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment  # Each deploy would reset what the autoscaler has set.
    assert scaler["spec"]["minReplicas"] >= 2
    assert scaler["spec"]["scaleTargetRef"]["name"] == KUBERNETES["Deployment"]["metadata"]["name"]
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    labels = deployment["template"]["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert KUBERNETES[kind]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Service"]["spec"]["selector"] == labels
    assert KUBERNETES["Service"]["spec"]["ports"][0]["targetPort"] == WEB["ports"][0]["name"]


@pytest.mark.container
@pytest.mark.parametrize("kind", KUBERNETES)
def test_kubernetes_knows_every_field(kind: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(KUBERNETES[kind], version, strict=True)


@pytest.mark.parametrize("name", ["development.ini", "production.ini"])
def test_logs_go_to_stderr_and_nowhere_else(name: str) -> None:
    handlers = re.findall(r"^class = (\w+Handler)\nargs = (.*)$", read(name), re.MULTILINE)
    assert handlers == [("StreamHandler", "(sys.stderr,)")]


def test_the_commands_of_the_debian_guide_use_existing_programs_files_and_variables() -> None:
    guide = read("docs/deployment.md")
    started = re.findall(r"/opt/hello_login/bin/(\w+) (\w+\.ini)", guide)
    assert {program for program, _ in started} == SCRIPTS - {"main"}
    assert all((ROOT / ini).exists() for _, ini in started)
    configured = guide.partition("<< END\n")[2].partition("END\n")[0]
    assert set(re.findall(r"^([A-Z_]+)=", configured, re.MULTILINE)) <= VARIABLES
    for replaced in ("web:5000", "/run/certificate.pem", "/run/key.pem"):
        assert replaced in guide
        assert replaced in read("proxy/nginx.conf")


def test_github_tests_every_python_that_the_package_declares() -> None:
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    versions = jobs["test"]["strategy"]["matrix"]["python"]
    assert f">={versions[0]}" == distribution("hello_login").metadata["Requires-Python"]
    assert versions == [f"3.{minor}" for minor in range(10, 15)]
    run = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    groups = {"make test", "make test-slow", "make browser-test", "make poolers", "make containers"}
    assert run == {"make lint", "make coverage", *groups}
