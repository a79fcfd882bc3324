"""The record of the parameters that a service acts under, so that whoever reads the streams needs nothing else.

A decision names its parameters by their label alone. Each service that decides writes what a label means when it first
acts under it, and once a day again, because audit.logs forgets after seven.
"""

from __future__ import annotations

from collections.abc import Iterable

from tradingbot.domain.messages import AuditRecord
from tradingbot.domain.params import VersionedParams

PARAMS_KIND = "params"


def telling_of(params: VersionedParams, *, cycle_id: str) -> str:
    """Names what is to be told in a cycle: the label and the UTC day. Kept in the service's state once it is told."""
    return f"{params.label} {cycle_id[:8]}"


def params_record(
    params: VersionedParams, *, cycle_id: str, cycle_seconds: int, universe: Iterable[str]
) -> AuditRecord:
    """What a label means, and the static settings that decisions depend on."""
    return AuditRecord(
        kind=PARAMS_KIND,
        cause=telling_of(params, cycle_id=cycle_id),
        details={
            "label": params.label,
            "values": params.params.model_dump(mode="json"),
            "cycle_seconds": cycle_seconds,
            "universe": list(universe),
        },
    )
