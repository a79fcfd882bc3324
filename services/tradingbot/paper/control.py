"""``/control``: troubles on request, money and positions by hand, and the log that tests and ``verify`` trust.

The venue has nothing like it. It answers on the same port, but to this machine alone, wherever the exchange listens:
whoever may trade must not be able to move prices. In a cluster it is reached by port-forward or exec.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradingbot.paper.actions import Address
from tradingbot.paper.faults import Fault, Kind
from tradingbot.paper.venue import Venue
from tradingbot.paper.ws import Hub

LOG_LIMIT = 10_000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Deposit(_Body):
    user: Address
    amount_usd: Decimal


class HandPosition(_Body):
    user: Address
    coin: str
    sz: Decimal
    """Signed: positive buys."""


class PriceShock(_Body):
    coin: str
    factor: Annotated[float, Field(gt=0)]


class Delisting(_Body):
    coin: str


class Control:
    """The handlers of one venue."""

    def __init__(self, venue: Venue, hub: Hub) -> None:
        self._venue = venue
        self._hub = hub

    async def status(self, _: HttpRequest) -> Response:
        """GET /control/status."""
        return _json({**self._venue.status(), "sockets": self._hub.count})

    async def log(self, request: HttpRequest) -> Response:
        """GET /control/log?after=ID&limit=N&kind=action|order|fill|ledger|shock|delisting."""
        self._venue.turn()
        query = request.query_params
        after, limit = int(query.get("after", "0")), min(LOG_LIMIT, int(query.get("limit", str(LOG_LIMIT))))
        return _json(self._venue.store.log(after=after, limit=limit, kind=query.get("kind")))

    async def faults(self, request: HttpRequest) -> Response:
        """POST /control/faults: one rule or a list of them; DELETE clears all."""
        if request.method == "DELETE":
            self._venue.clear_faults()
            return _json({"ok": True})
        content = await request.json()
        rules = [Fault.model_validate(each) for each in (content if isinstance(content, list) else [content])]
        for rule in rules:
            if rule.kind is Kind.CLOSE_SOCKETS and rule.path is None:
                self._hub.close_all(rule.close_code)
            else:
                self._venue.add_fault(rule)
        return _json({"ok": True})

    async def deposit(self, request: HttpRequest) -> Response:
        """POST /control/deposit."""
        wanted = Deposit.model_validate(await request.json())
        self._venue.deposit(wanted.user, wanted.amount_usd)
        return _json({"ok": True})

    async def position(self, request: HttpRequest) -> Response:
        """POST /control/position."""
        wanted = HandPosition.model_validate(await request.json())
        self._venue.open_by_hand(wanted.user, wanted.coin, wanted.sz)
        return _json({"ok": True})

    async def price(self, request: HttpRequest) -> Response:
        """POST /control/price."""
        wanted = PriceShock.model_validate(await request.json())
        self._venue.shock(wanted.coin, wanted.factor)
        return _json({"ok": True})

    async def delist(self, request: HttpRequest) -> Response:
        """POST /control/delist."""
        wanted = Delisting.model_validate(await request.json())
        self._venue.delist(wanted.coin)
        return _json({"ok": True})


def control_routes(venue: Venue, hub: Hub) -> list[BaseRoute]:
    """The routes below ``/control``."""
    control = Control(venue, hub)
    return [
        Route("/control/status", _guarded(control.status)),
        Route("/control/log", _guarded(control.log)),
        Route("/control/faults", _guarded(control.faults), methods=["POST", "DELETE"]),
        Route("/control/deposit", _guarded(control.deposit), methods=["POST"]),
        Route("/control/position", _guarded(control.position), methods=["POST"]),
        Route("/control/price", _guarded(control.price), methods=["POST"]),
        Route("/control/delist", _guarded(control.delist), methods=["POST"]),
    ]


def _guarded(handler: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    async def answer(request: HttpRequest) -> Response:
        if not _is_local(request):
            return _json({"error": "/control answers this machine alone: use kubectl port-forward or exec"}, 403)
        try:
            found: Response = await handler(request)
        except (ValidationError, ValueError) as error:
            return _json({"error": str(error)}, 422)
        except KeyError as error:
            return _json({"error": f"unknown: {error.args[0]}"}, 404)
        return found

    return answer


def _is_local(request: HttpRequest) -> bool:
    """Whether the connection comes over the loopback interface."""
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status_code=status, media_type="application/json")
