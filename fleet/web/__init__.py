"""What the operator's side serves over HTTP."""
