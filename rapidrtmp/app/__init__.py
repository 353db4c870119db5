"""One RTMP application: its plugins, its storages, and how its streams are made."""
