"""What the API answers: pydantic models, each made from what the core and the ports give."""
