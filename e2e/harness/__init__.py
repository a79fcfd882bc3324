"""What the end-to-end tests and the cluster's benchmarks stand on: a kind cluster, the installed chart, bots in it."""
