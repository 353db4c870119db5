"""
Work counted, not timed: what the server does for each message and each request, held to a table.

A real server (its reactor, its sockets, everything behind them) runs in this process with one publisher and some
viewers. All that is not the server happens while it waits in ``epoll``, and time is what the script says (``world``).
So the same work is done in every run, however busy the machine is, and it can be counted to the last instruction
(``meter``). ``python -m tests.work`` shows what is counted now (``scenes``) beside the table (``budget``).
"""
