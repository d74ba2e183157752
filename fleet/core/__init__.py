"""Pure decisions of the operator's side."""
