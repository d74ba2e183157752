"""From pictures to a measured int8 bundle."""
