"""Codecs: from the payloads of media messages to samples and facts, as plain Python; knows no clock."""
