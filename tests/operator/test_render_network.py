"""Who reaches whom, judged as a cluster judges NetworkPolicies: a selected pod may do only what a policy allows."""

import ipaddress
from itertools import product

import pytest

from support.operator_render import (
    EVERYTHING,
    SETTINGS,
    THEIR_REDIS,
    bot,
    everything,
    of_kind,
    rendered,
    templates,
)
from tradingbot_operator.names import COMPONENTS, SERVICE_COMPONENTS
from tradingbot_operator.render.model import model_service
from tradingbot_operator.settings import parse_settings

INTERNET, METADATA, NODE = "99.84.12.7", "169.254.169.254", "172.18.0.2"
VENUE = {"market-data", "portfolio-state", "execution"}
OPERATOR = {"namespace": "tradingbot-system", "labels": {"app.kubernetes.io/name": "tradingbot-operator"}}
STRANGER = {"namespace": "bots", "labels": {"app": "web"}}
DNS = {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}


def pods(manifests):
    return {
        component: {"namespace": "bots", "labels": template["metadata"]["labels"]}
        for component, template in templates(manifests).items()
    }


def selects(selector, labels):
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )


def is_peer(peer, other):
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ipaddress.ip_address(other) if isinstance(other, str) else None
        return address is not None and (
            address in ipaddress.ip_network(block["cidr"])
            and not any(address in ipaddress.ip_network(each) for each in block.get("except", []))
        )
    if isinstance(other, str):
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other["namespace"]}):
            return False
    elif other["namespace"] != "bots":
        return False
    return selects(peer.get("podSelector", {}), other["labels"])


def lets(rules, side, other, port, protocol):
    return any(
        (side not in rule or any(is_peer(peer, other) for peer in rule[side]))
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in rules
    )


def holds(manifests, pod, direction, other, port, protocol="TCP"):
    """Whether the policies let this pod receive from, or send to, another."""
    if isinstance(pod, str) or pod["namespace"] != "bots":
        return True
    specs = [each["spec"] for each in of_kind(manifests, "NetworkPolicy")]
    isolating = [each for each in specs if selects(each["podSelector"], pod["labels"])]
    isolating = [each for each in isolating if direction.capitalize() in each["policyTypes"]]
    side = "from" if direction == "ingress" else "to"
    return not isolating or any(lets(each.get(direction, []), side, other, port, protocol) for each in isolating)


def reaches(manifests, source, target, port, protocol="TCP"):
    return holds(manifests, source, "egress", target, port, protocol) and holds(
        manifests, target, "ingress", source, port, protocol
    )


PAPER, REAL = rendered(), rendered(EVERYTHING)
PORTS = {"redis": 6379, "paper": 3001, **dict.fromkeys(SERVICE_COMPONENTS, 9090)}


@pytest.mark.parametrize(("source", "target"), list(product(COMPONENTS, COMPONENTS)))
def test_parts_reach_redis_and_the_exchange_where_they_must_and_nothing_else(source, target):
    here = pods(PAPER)
    needed = (source in SERVICE_COMPONENTS and target == "redis") or (source in VENUE and target == "paper")
    assert reaches(PAPER, here[source], here[target], PORTS[target]) is needed
    assert not reaches(PAPER, here[source], here[target], 22)


@pytest.mark.parametrize("component", COMPONENTS)
def test_on_paper_nothing_leaves_the_cluster(component):
    for address, port in product((INTERNET, METADATA, NODE), (80, 443, 6443)):
        assert not reaches(PAPER, pods(PAPER)[component], address, port)


@pytest.mark.parametrize("component", [*SERVICE_COMPONENTS, "redis"])
def test_only_those_who_talk_to_the_venue_reach_the_internet_and_only_by_https(component):
    pod = pods(REAL)[component]
    assert reaches(REAL, pod, INTERNET, 443) is (component in VENUE)
    assert not reaches(REAL, pod, INTERNET, 80)
    for private in (METADATA, NODE, "10.96.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1"):
        assert not reaches(REAL, pod, private, 443)


def test_dns_is_asked_by_those_who_look_up_names():
    for component in SERVICE_COMPONENTS:
        assert reaches(PAPER, pods(PAPER)[component], DNS, 53, "UDP")
        assert reaches(PAPER, pods(PAPER)[component], DNS, 53, "TCP")
    for component in ("redis", "paper"):
        assert not reaches(PAPER, pods(PAPER)[component], DNS, 53, "UDP")


def test_the_exchange_reaches_the_live_venue_when_its_prices_are_live():
    live = rendered({"exchange": {"paper": {"prices": "live"}}})
    assert reaches(live, pods(live)["paper"], INTERNET, 443)
    assert reaches(live, pods(live)["paper"], DNS, 53, "UDP")
    assert not reaches(live, pods(live)["paper"], METADATA, 443)


def test_redis_admits_the_operator_and_no_stranger():
    redis = pods(PAPER)["redis"]
    assert reaches(PAPER, OPERATOR, redis, 6379)
    assert not reaches(PAPER, STRANGER, redis, 6379)
    assert not reaches(PAPER, {**OPERATOR, "namespace": "elsewhere"}, redis, 6379)
    assert not reaches(PAPER, {**OPERATOR, "labels": {"app": "other"}}, redis, 6379)


def test_another_bots_pods_are_strangers():
    other = pods(rendered(name="other"))
    for source, target in product(COMPONENTS, COMPONENTS):
        assert not reaches(PAPER, other[source], pods(PAPER)[target], PORTS[target])


def test_metrics_are_read_from_where_the_chart_says_and_from_nowhere_else():
    prometheus = {"namespace": "monitoring", "labels": {"app": "prometheus"}}
    for component in SERVICE_COMPONENTS:
        assert reaches(everything(), prometheus, pods(everything())[component], 9090)
        assert not reaches(everything(), prometheus, pods(everything())[component], 8090)
        assert not reaches(PAPER, prometheus, pods(PAPER)[component], 9090)
        assert not reaches(everything(), STRANGER, pods(everything())[component], 9090)


def test_the_monitors_page_is_reached_over_the_network_by_nobody():
    for source in (*pods(PAPER).values(), OPERATOR, STRANGER, INTERNET):
        assert not reaches(PAPER, source, pods(PAPER)["monitor"], 8090)


def test_extra_egress_is_open_to_the_services_alone():
    for component, pod in pods(everything()).items():
        assert reaches(everything(), pod, "10.1.2.3", 4318) is (component in SERVICE_COMPONENTS)


def test_a_redis_of_a_persons_own_is_reached_at_the_ports_of_redis():
    theirs = rendered(THEIR_REDIS)
    for component in SERVICE_COMPONENTS:
        assert reaches(theirs, pods(theirs)[component], "10.9.8.7", 6379)
        assert not reaches(theirs, pods(theirs)[component], "10.9.8.7", 443)
    narrow = parse_settings(
        {**SETTINGS.model_dump(by_alias=True), "externalRedisEgress": [
            {"to": [{"ipBlock": {"cidr": "10.9.8.7/32"}}], "ports": [{"protocol": "TCP", "port": 7000}]}]}
    )  # fmt: skip
    theirs = rendered(THEIR_REDIS, settings=narrow)
    assert reaches(theirs, pods(theirs)["execution"], "10.9.8.7", 7000)
    assert not reaches(theirs, pods(theirs)["execution"], "10.9.8.8", 6379)


def with_strategy(strategy="llm", settings=SETTINGS, service=None, **ai):
    """What is rendered of a bot that decides by this strategy."""
    model = {} if strategy.startswith("plugin:") else {"endpoint": "https://api.example/v1", "model": "m"}
    return rendered({"ai": {"strategy": strategy, **model, **ai}}, settings=settings, service=service)


def test_the_models_endpoint_is_open_to_the_decision_alone_and_only_when_a_strategy_needs_it():
    assert not reaches(PAPER, pods(PAPER)["ai-decision"], INTERNET, 443)
    for strategy in ("llm", "regime"):
        asking = with_strategy(strategy)
        for component, pod in pods(asking).items():
            assert reaches(asking, pod, INTERNET, 443) is (component == "ai-decision")
    for strategy in ("equal", "inverse_vol", "plugin:mine"):
        alone = rendered({"ai": {"strategy": strategy, "endpoint": "https://api.example/v1"}})
        assert not reaches(alone, pods(alone)["ai-decision"], INTERNET, 443)


@pytest.mark.parametrize(
    ("endpoint", "target", "port"),
    [
        ("http://model.ai.svc:8000/v1", {"namespace": "ai", "labels": {"app": "model"}}, 8000),
        ("http://model.ai.svc.cluster.local/v1", {"namespace": "ai", "labels": {"app": "model"}}, 80),
        ("https://model.ai.svc./v1", {"namespace": "ai", "labels": {"app": "model"}}, 443),
        ("http://model:8000/v1", {"namespace": "bots", "labels": {"app": "model"}}, 8000),
        ("https://10.20.30.40:8443/v1", "10.20.30.40", 8443),
        ("https://model.example:8443/v1", INTERNET, 8443),
    ],
)
def test_a_models_endpoint_is_found_where_its_address_says(endpoint, target, port):
    llm = with_strategy(strategy="llm", endpoint=endpoint)
    assert reaches(llm, pods(llm)["ai-decision"], target, port)
    assert not reaches(llm, pods(llm)["monitor"], target, port)
    assert not reaches(llm, pods(llm)["ai-decision"], METADATA, port)


MODEL = {"namespace": "bots", "labels": {"app": "model", "pod": "1"}}


def service(*ports, **spec):
    return {"spec": {"clusterIP": "10.96.0.9", "selector": {"app": "model"}, "ports": list(ports), **spec}}


@pytest.mark.parametrize(
    ("endpoint", "behind", "port"),
    [
        ("http://model/v1", service({"port": 9, "targetPort": 9}, {"port": 80, "targetPort": 8000}), 8000),
        ("http://model.bots.svc/v1", service({"port": 80, "targetPort": "http"}), "http"),
        ("http://model:8000/v1", service({"port": 8000, "protocol": "TCP"}), 8000),
        ("http://model:8000/v1", service({"port": 80, "targetPort": 8001}, clusterIP="None"), 8000),
    ],
)
def test_a_model_whose_service_is_known_is_reached_at_its_pods_and_their_port_alone(endpoint, behind, port):
    llm = with_strategy(endpoint=endpoint, service=behind)
    decision = pods(llm)["ai-decision"]
    assert reaches(llm, decision, MODEL, port)
    assert not reaches(llm, pods(llm)["monitor"], MODEL, port)
    assert not reaches(llm, decision, STRANGER, port)
    assert not reaches(llm, decision, {**MODEL, "namespace": "other"}, port)
    assert not reaches(llm, decision, MODEL, 5432)


@pytest.mark.parametrize(
    "behind",
    [
        None,
        service({"port": 8000}, selector=None),
        service({"port": 9000}),
        service({"port": 8000, "protocol": "UDP"}),
        service({"port": 8000}, type="ExternalName"),
    ],
    ids=["unknown", "without pods of its own", "another port", "another protocol", "a name elsewhere"],
)
def test_a_model_whose_service_does_not_tell_is_reached_in_its_namespace_at_the_endpoints_port(behind):
    llm = with_strategy(endpoint="http://model:8000/v1", service=behind)
    decision = pods(llm)["ai-decision"]
    assert reaches(llm, decision, MODEL, 8000)
    assert not reaches(llm, decision, MODEL, 5432)
    assert not reaches(llm, decision, {**MODEL, "namespace": "other"}, 8000)


@pytest.mark.parametrize("host", ["model%2f..%2fsecrets", "..", "model.a%3fb.svc", "api.example", "10.0.0.1", "[::1]"])
def test_a_host_that_is_no_services_name_is_not_asked_for(host):
    assert model_service(bot({"ai": {"strategy": "llm", "endpoint": f"http://{host}/v1", "model": "m"}})) is None


def test_an_ipv6_endpoint_opens_the_way_to_it_and_not_to_its_own_namespace():
    llm = with_strategy(strategy="llm", endpoint="https://[2001:db8::1]:8443/v1")
    assert not reaches(llm, pods(llm)["ai-decision"], {"namespace": "bots", "labels": {"app": "model"}}, 8443)
    assert "2001:db8::1/128" in str(of_kind(llm, "NetworkPolicy"))


def test_a_model_in_a_private_network_is_reached_by_what_the_chart_opens_and_by_nobody_else():
    opened = {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    settings = parse_settings({**SETTINGS.model_dump(by_alias=True), "modelEgress": [opened]})
    for strategy in ("llm", "regime", "plugin:mine"):
        asking = with_strategy(strategy, settings)
        for component, pod in pods(asking).items():
            assert reaches(asking, pod, "10.20.30.40", 443) is (component == "ai-decision")
    alone = rendered({"ai": {"strategy": "equal"}}, settings=settings)
    assert not reaches(alone, pods(alone)["ai-decision"], "10.20.30.40", 443)


def test_an_exchange_of_a_persons_own_in_the_cluster_is_reached_by_its_namespace():
    exchange = {**EVERYTHING["exchange"], "network": "testnet", "liveTrading": False,
                "httpUrl": "http://fake.lab.svc:3001", "wsUrl": "ws://fake.lab.svc:3001/ws"}  # fmt: skip
    theirs = rendered({"exchange": exchange})
    fake = {"namespace": "lab", "labels": {"app": "fake"}}
    for component, pod in pods(theirs).items():
        assert reaches(theirs, pod, fake, 3001) is (component in VENUE)
        assert not reaches(theirs, pod, INTERNET, 443)


def test_no_rule_is_written_for_ipv6_which_stays_closed():
    texts = str(of_kind(everything(), "NetworkPolicy"))
    assert "::" not in texts
