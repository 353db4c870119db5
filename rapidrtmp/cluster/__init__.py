"""One server of several processes: each takes publishers and answers viewers for every stream."""
