"""The operator's master key in its Secret: made at the first start, then only read."""

from __future__ import annotations

import base64

import structlog

from tradingbot_operator.keys import MASTER_FIELD, MASTER_SECRET, BadMasterKey, MasterKey
from tradingbot_operator.kube import Kube
from tradingbot_operator.names import LABEL_MANAGED_BY, MANAGED_BY

log = structlog.stdlib.get_logger("tradingbot.operator.master")


async def master_key(kube: Kube, namespace: str) -> MasterKey:
    """The key, made if there is none; of two operators that start at once both use the one that was stored.

    Raises:
        BadMasterKey: the Secret does not hold a key.
        KubeError, Forbidden: it cannot be read or made.
    """
    secret = await kube.get("v1", "Secret", namespace, MASTER_SECRET)
    if secret is None:
        await _make(kube, namespace)
        secret = await kube.get("v1", "Secret", namespace, MASTER_SECRET)
    content = (secret or {}).get("data", {}).get(MASTER_FIELD)
    if content is None:
        raise BadMasterKey(f"Secret {namespace}/{MASTER_SECRET} has no {MASTER_FIELD}")
    return MasterKey.from_text(base64.b64decode(content).decode("ascii", "replace"))


async def _make(kube: Kube, namespace: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": MASTER_SECRET,
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        },
        "immutable": True,
        "stringData": {MASTER_FIELD: MasterKey.generate().text().get_secret_value()},
    }
    if await kube.create(manifest):
        log.info("master_key_made", namespace=namespace, secret=MASTER_SECRET)
