"""The server's loops: threads with one owner each, that meet the world at ports."""
