"""What Osteon knows about a study. Imports none of our other packages."""
