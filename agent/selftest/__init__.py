"""`rkfleet-agent selftest`: what only the board itself can tell, in a report for people and for machines."""
