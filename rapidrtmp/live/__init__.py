"""Live streams: who publishes what, and which sinks its frames go to."""
