"""Backtests: the numeric kernel that decides live, compiled, over recorded candles."""
