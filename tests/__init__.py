"""The tests of Osteon; the kinds are folders, what they share is in support."""
