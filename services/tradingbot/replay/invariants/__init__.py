"""Executable checkers of the invariants (docs/architecture.md), each over the same evidence."""
