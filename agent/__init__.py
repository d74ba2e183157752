"""The board: cameras to results."""
