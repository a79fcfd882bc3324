"""One cluster, one installation of the chart, and the bots that the tests share, in the order that spares them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import cluster, evidence, namespaces
from harness.bot import Bot
from harness.kubectl import Kubectl
from harness.operator import Operator
from harness.specs import EXAMPLE, RESTING
from harness.waiting import PATIENCE

ORDER = (
    "test_install",
    "test_crd",
    "test_isolation",
    "test_parameters",
    "test_strategies",
    "test_repair",
    "test_restart",
    "test_modes",
    "test_failures",
    "test_upgrade",
    "test_deletion",
)
"""A bot costs minutes on a small machine: the first modules look at one, the later ones break it."""
TIMEOUT_S = 420 * PATIENCE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    installation = item.session.stash.get(INSTALLATION, None)
    if report.failed and installation is not None:
        text = evidence.gather(installation.kubectl, operator=installation.namespace, bots=installation.watched[:1])
        report.sections.append(("cluster", text))
    return report


INSTALLATION = pytest.StashKey[Operator]()


@pytest.fixture(scope="session")
def kubectl() -> Iterator[Kubectl]:
    """The cluster; this run's namespaces are gone afterwards."""
    client = cluster.find_or_create()
    yield client
    if not namespaces.KEPT:
        namespaces.remove_all(client)


@pytest.fixture(scope="session")
def namespace(kubectl: Kubectl) -> str:
    """Where the bots are."""
    return namespaces.create(kubectl, "bots")


@pytest.fixture(scope="session")
def unwatched(kubectl: Kubectl) -> str:
    """A namespace that no operator looks at."""
    return namespaces.create(kubectl, "unwatched")


@pytest.fixture(scope="session")
def operator(kubectl: Kubectl, namespace: str, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The chart, installed."""
    installed = Operator(kubectl, namespaces.create(kubectl, "operator"), [namespace])
    request.session.stash[INSTALLATION] = installed
    installed.install()
    yield installed
    if not namespaces.KEPT:
        installed.uninstall()


@pytest.fixture(scope="session")
def created(operator: Operator, namespace: str) -> dict[str, Bot]:
    """The two bots that most tests share; they start at the same time."""
    bots = {name: Bot(operator.kubectl, name, namespace) for name in ("majors", "resting")}
    bots["majors"].create(EXAMPLE)
    bots["resting"].create(RESTING)
    return bots


@pytest.fixture(scope="session")
def majors(created: dict[str, Bot]) -> Bot:
    """The documented example, as the API server took it."""
    return created["majors"]


@pytest.fixture(scope="session")
def resting(created: dict[str, Bot]) -> Bot:
    """A bot whose orders rest, so that a HALT has something to cancel."""
    created["resting"].wait_ready()
    return created["resting"]
