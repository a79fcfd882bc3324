"""The operator: it renders, watches and halts bots in a cluster; the bots trade without it."""
