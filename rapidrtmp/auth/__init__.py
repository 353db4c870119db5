"""Authenticators: who may publish."""
