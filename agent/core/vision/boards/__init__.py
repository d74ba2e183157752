"""Procedural printed circuit boards with faults: pictures for training, tests and demonstrations, from a seed alone."""
