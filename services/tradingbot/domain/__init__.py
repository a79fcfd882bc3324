"""Messages, modes, money, ids and portfolio arithmetic: pure, imports nothing else of ours."""
