"""Alembic's scripts. Run by fleet.adapters.db.schema, inside its transaction."""
