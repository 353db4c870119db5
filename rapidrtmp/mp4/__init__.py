"""CMAF: init segments and fragments, written with struct and read back by pymp4."""
