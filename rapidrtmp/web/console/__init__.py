"""The console: pages for operators, and the sessions of those who have logged in there."""
