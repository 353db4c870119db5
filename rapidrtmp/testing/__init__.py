"""What a plugin's author needs to prove it: contract suites to inherit from, and doubles that fail on demand."""
