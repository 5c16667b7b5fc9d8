"""Who we are on the network and in file meta information (PS3.7 D.3.3.2)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.195524996126777666788685463955478693656"
IMPLEMENTATION_VERSION_NAME: Final = "OSTEON"
