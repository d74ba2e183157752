"""The wire contract: every message, the model manifest, topics, failure codes."""
