"""Threads with one owner each."""
