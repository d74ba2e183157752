"""A model's whole way, from pictures to a bundle, as a file: read, run, resumed, and skipped where nothing changed."""
