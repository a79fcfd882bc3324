"""Shows what the bot does and takes a person's commands; it reads the bus and decides nothing."""
