"""Recorded candles: from files to arrays, and from the venue to files."""
