"""From media payloads to frames on one timeline, as plain Python."""
