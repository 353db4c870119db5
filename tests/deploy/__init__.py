"""What is in ``deploy/`` is what it says: manifests, units, rules and images, read and compared with the server."""
