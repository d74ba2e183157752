"""For those who maintain the project."""
