"""Objects by key, kept in memory, on disk or in a bucket, and the queue that writes them behind."""
