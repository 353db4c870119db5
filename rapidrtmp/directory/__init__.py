"""Directories of who owns which stream: of one process, of the processes of one machine, of several machines."""
