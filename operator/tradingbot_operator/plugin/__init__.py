"""``kubectl tradingbot``: what a person does with a bot, from a terminal.

It calls kubectl, which knows the cluster and the person's rights, and nothing of the operator: a halt works while the
operator is down.
"""
