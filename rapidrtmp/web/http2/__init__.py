"""HTTP/2: which connections speak it, and what each may cost. Only ``negotiation`` needs no ``h2``."""
