"""Words of HTTP that several packages speak: header fields, queries, errors, and what describes a route."""
