"""CMAF: where frames are cut into parts and segments, and the init segments and fragments they become."""
