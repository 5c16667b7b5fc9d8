"""The golden tests."""
