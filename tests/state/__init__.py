"""Tests of what is stored: each on SQLite and on a real PostgreSQL."""
