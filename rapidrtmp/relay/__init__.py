"""Relays: streams pushed to other servers, and streams pulled from them."""
