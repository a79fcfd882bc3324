"""What every process needs: clock, settings, logging, metrics, tracing, health, shutdown."""
