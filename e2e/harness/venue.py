"""An exchange that belongs to no bot: its log outlives the bots that trade on it."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field

import coincurve
from Crypto.Hash import keccak

from harness.cluster import IMAGE
from harness.exchange import Exchange
from harness.kubectl import Kubectl, Manifest
from harness.specs import RESTING, Spec, merged

NAME = "venue"
PORT = 3001


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account, and an agent's key that may sign for it."""

    account: str = field(default_factory=lambda: f"0x{secrets.token_hex(20)}")
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def agent(self) -> str:
        """The address of the key."""
        point = coincurve.PublicKey.from_secret(self.key).format(compressed=False)
        return f"0x{keccak.new(digest_bits=256, data=point[1:]).digest()[-20:].hex()}"


class Venue:
    """The paper exchange as a test network of its own, in a namespace of its own."""

    def __init__(self, kubectl: Kubectl, namespace: str, wallets: list[Wallet]) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self._wallets = wallets
        self.exchange = Exchange(kubectl, pod=lambda: NAME, namespace=namespace)

    def start(self) -> None:
        self.kubectl.apply(self._pod(), self._service())
        self.kubectl(
            "wait", "pod", NAME, "-n", self.namespace, "--for=condition=Ready", "--timeout=120s", timeout_s=150
        )
        self.exchange.wait_until_readable()

    def spec(self, wallet: Wallet, *, secret: str, **change: object) -> Spec:
        """A bot that trades here, its key in a Secret."""
        host = f"{NAME}.{self.namespace}.svc:{PORT}"
        where = {
            "network": "testnet",
            "paper": None,
            "accountAddress": wallet.account,
            "privateKeySecretRef": {"name": secret},
            "httpUrl": f"http://{host}",
            "wsUrl": f"ws://{host}/ws",
        }
        return merged(RESTING, {"dryRun": False, "exchange": where, **change})

    def secret(self, wallet: Wallet, *, name: str, namespace: str) -> Manifest:
        """The Secret with an agent's key."""
        data = {"private-key": base64.b64encode(f"0x{wallet.key.hex()}".encode()).decode()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}

    def _pod(self) -> Manifest:
        accounts = [f"--account={each.account}" for each in self._wallets]
        agents = [f"--agent={each.agent}:{each.account}" for each in self._wallets]
        options = ["--prices=synthetic:7", "--start-equity-usd=1000000"]
        container = {
            "name": NAME,
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "args": ["paper", "--host=0.0.0.0", f"--port={PORT}", *options, *accounts, *agents],
            "readinessProbe": {"tcpSocket": {"port": PORT}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        metadata = {"name": NAME, "namespace": self.namespace, "labels": {"app": NAME}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _service(self) -> Manifest:
        spec = {"selector": {"app": NAME}, "ports": [{"port": PORT}]}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": spec,
        }
