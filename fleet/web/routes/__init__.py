"""The routes, by subject. Those that wait for a database are sync: each runs on a thread."""
