"""The command `osteon`: starts, shows and operates the node."""
