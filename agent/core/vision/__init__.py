"""From pictures to regions: pure numpy and OpenCV."""
