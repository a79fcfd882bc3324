"""Brings one bot to what its resource says, in three lanes that never wait for one another.

``mode`` writes the mode into the bot's Redis and judges the answer; ``children`` brings what the bot is made of;
``status`` does what follows in the cluster from what the two found. Each may be run at any time and any number of
times: they look at what is, not at what has changed.
"""

from __future__ import annotations

from tradingbot.runtime.clock import Clock
from tradingbot_operator.accounts import Accounts
from tradingbot_operator.bus_link import Links
from tradingbot_operator.cache import Cache
from tradingbot_operator.children import Children
from tradingbot_operator.children_lane import ChildrenLane
from tradingbot_operator.desk import Desk
from tradingbot_operator.events import Teller
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.kube import Kube
from tradingbot_operator.memory import Memories
from tradingbot_operator.mode_lane import ModeLane
from tradingbot_operator.queue import WorkQueue
from tradingbot_operator.settings import OperatorSettings
from tradingbot_operator.status_lane import StatusLane
from tradingbot_operator.tenancy import Tenancy
from tradingbot_operator.weight import Weights


class Reconciler:
    """The handlers of the three lanes."""

    def __init__(
        self,
        *,
        kube: Kube,
        cache: Cache,
        queue: WorkQueue,
        links: Links,
        children: Children,
        accounts: Accounts,
        weights: Weights,
        settings: OperatorSettings,
        master: MasterKey,
        clock: Clock,
    ) -> None:
        desk = Desk(
            cache=cache,
            queue=queue,
            clock=clock,
            teller=Teller(kube),
            memories=Memories(),
            settings=settings,
            master=master,
        )
        tenancy = Tenancy(desk, accounts, weights)
        self.mode = ModeLane(desk, links).run
        self.children = ChildrenLane(desk, kube=kube, links=links, children=children, tenancy=tenancy).run
        self.status = StatusLane(desk, kube=kube, tenancy=tenancy).run
