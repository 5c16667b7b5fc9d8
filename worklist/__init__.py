"""The web: health, worklist, viewer and administration."""
