"""The sub-commands of ``tradingbot``, one module a topic."""
