"""Finds the folder of real files that may lie beside the project; a clone works without it."""

from __future__ import annotations

from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SHARED = PROJECT_ROOT.parent / "shared"


def has_shared(relative: str) -> bool:
    """Whether ``../shared/<relative>`` is there."""
    return (SHARED / relative).exists()


def require_shared(relative: str) -> Path:
    """Return ``../shared/<relative>``, or skip the test that needs it.

    Parameters
    ----------
    relative
        Path below the shared folder, e.g. ``"dicom/RG3_UNC.dcm"``.
    """
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/{relative} beside the project (real files, not in the clone)")
    return path
