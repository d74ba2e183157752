"""Pure decisions: no threads, clocks, files, sockets or logging."""
