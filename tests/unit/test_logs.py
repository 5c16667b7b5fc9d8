"""What a log says of an error: where and of which type, never a value of a file."""

import json
import subprocess
import sys

SCRIPT = """
import logging, sys
import structlog
from osteon.logs import set_up_logs
from studies.errors import TemporaryError
set_up_logs()
try:
    try:
        raise LookupError("SECRET^PATIENT")
    except LookupError as error:
        raise TemporaryError("1.2.3 cannot be read") from error
except TemporaryError:
    structlog.get_logger().exception("defect")
    logging.getLogger("foreign").exception("defect there")
"""


def test_an_errors_text_stays_out_of_the_log_and_our_own_stays_in():
    """The text of somebody else's error may repeat a value of the file."""
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in shown.stderr.splitlines()]

    assert "SECRET" not in shown.stderr
    assert [line["event"] for line in lines] == ["defect", "defect there"]
    for line in lines:
        assert "builtins.LookupError" in line["exception"]
        assert "TemporaryError: 1.2.3 cannot be read" in line["exception"]
