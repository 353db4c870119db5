"""Authenticators: who may publish, and who may watch."""
