"""Alembic's scripts: how a store of an earlier schema becomes one of today's."""
