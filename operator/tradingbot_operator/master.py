"""The operator's master key in its Secret: made at the first start, then only read."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import structlog

from tradingbot_operator.keys import MASTER_FIELD, MASTER_SECRET, BadMasterKey, MasterKey
from tradingbot_operator.kube import Forbidden, Kube, KubeError
from tradingbot_operator.names import API_VERSION, KIND, LABEL_MANAGED_BY, MANAGED_BY
from tradingbot_operator.watch import scopes

log = structlog.stdlib.get_logger("tradingbot.operator.master")


async def master_key(kube: Kube, namespace: str, watched: Sequence[str] = ()) -> MasterKey:
    """The key, made if there is none; of two operators that start at once both use the one that was stored.

    Where bots in the ``watched`` namespaces have lived under another one, that is logged: theirs is lost.

    Raises:
        BadMasterKey: the Secret does not hold a key.
        KubeError, Forbidden: it cannot be read or made.
    """
    secret = await kube.get("v1", "Secret", namespace, MASTER_SECRET)
    if secret is None:
        await _warn_of_a_lost_key(kube, namespace, watched)
        await _make(kube, namespace)
        secret = await kube.get("v1", "Secret", namespace, MASTER_SECRET)
    content = (secret or {}).get("data", {}).get(MASTER_FIELD)
    if content is None:
        raise BadMasterKey(f"Secret {namespace}/{MASTER_SECRET} has no {MASTER_FIELD}")
    return MasterKey.from_text(base64.b64decode(content).decode("ascii", "replace"))


async def _warn_of_a_lost_key(kube: Kube, namespace: str, watched: Sequence[str]) -> None:
    bots = [each for scope in scopes(watched) for each in await _known_bots(kube, scope)]
    if bots:
        log.error(
            "master_key_lost",
            secret=f"{namespace}/{MASTER_SECRET}",
            bots=len(bots),
            example=bots[0],
            do="a new one is made, and Redis will refuse these bots' services: restore the Secret from a backup and "
            "restart the operator, or go on as docs/troubleshooting.md says",
        )


async def _known_bots(kube: Kube, scope: str | None) -> list[str]:
    """Those that an operator has given a status."""
    try:
        listed = await kube.list(API_VERSION, KIND, scope)
    except Forbidden:
        return []  # whoever lists the namespaces says so
    except KubeError as error:
        if error.status == 404:
            return []  # no definition, no bots
        raise
    return [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in listed if each.get("status")]


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
