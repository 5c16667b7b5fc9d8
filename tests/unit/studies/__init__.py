"""Tests of what we know about a study."""
