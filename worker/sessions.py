"""ONNX Runtime sessions: threads, the provider that was asked for, and the one really used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import onnxruntime

from studies.errors import ConfigurationError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

Device = Literal["auto", "cpu", "cuda"]


def open_session(path: Path, *, device: Device, threads: int) -> onnxruntime.InferenceSession:
    """Open a model on the device that was asked for.

    Parameters
    ----------
    device
        "cuda" is used or the call fails; "auto" takes CUDA where it truly works.
    threads
        Threads within one operator on the CPU; processes times threads should be the cores.

    Raises
    ------
    ConfigurationError
        Naming the file that is no model, or the device that is not used.
    """
    try:
        session = onnxruntime.InferenceSession(
            str(path), _options(threads), providers=_providers(device)
        )
    except Exception as error:  # onnxruntime's errors have no common base below Exception
        raise ConfigurationError(
            f"{path} cannot be run: {type(error).__name__}: {error}"
        ) from error
    # A provider that fails in the middle must be seen, not replaced behind our back.
    session.disable_fallback()
    # ONNX Runtime falls back to the CPU without an error and still lists CUDA as available.
    used = provider_of(session)
    if device == "cuda" and used != CUDA:
        raise ConfigurationError(
            f"device is set to cuda, but ONNX Runtime uses {used} for {path}: "
            "check the driver, onnxruntime-gpu and its CUDA libraries, or set device to cpu"
        )
    return session


def provider_of(session: onnxruntime.InferenceSession) -> str:
    """The execution provider that a session really uses."""
    return str(session.get_providers()[0])


def _providers(device: Device) -> list[str]:
    wants_cuda = device != "cpu" and CUDA in onnxruntime.get_available_providers()
    if not wants_cuda:
        return [CPU]
    preload: Any = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()  # CUDA and cuDNN from the wheels beside us
    return [CUDA, CPU]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin take the core from the neighbouring process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
