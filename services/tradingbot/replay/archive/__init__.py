"""The record of a bot's streams on disk, in Parquet."""
