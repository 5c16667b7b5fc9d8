"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("osteon")
except PackageNotFoundError:  # a checkout that was never installed
    VERSION = "0+unknown"
