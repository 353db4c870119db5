"""The service that runs it all: listeners, the order of start and stop, and what is scraped of it."""
