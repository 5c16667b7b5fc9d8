"""A reading becomes the objects that are sent; pure, no I/O and no clock."""
