"""Tests of the schema and of upgrades."""
