"""Mirrors the venue's account and orders; the venue is the authority, what is held here is a copy."""
