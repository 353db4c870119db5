"""What happened: one ordered log, and how it reaches clients, other servers, commands and plugins."""
