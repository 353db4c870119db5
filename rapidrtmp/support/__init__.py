"""Small things that several packages need: clocks, address prefixes, units, throttled logging."""
