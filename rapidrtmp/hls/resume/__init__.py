"""What a server that starts finds of the streams an earlier one left, and how it continues them."""
