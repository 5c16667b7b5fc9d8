"""``python -m osteon``: the command, as the supervisor starts it."""

from osteon.cli import app

if __name__ == "__main__":
    app(prog_name="osteon")
