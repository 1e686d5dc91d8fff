"""What libraries say of each other at their import doesn't reach kft's user."""

from __future__ import annotations

import subprocess
import sys


def test_bitsandbytes_is_not_heard_asking_for_kernels() -> None:
    asked = (
        "import kft, logging; import bitsandbytes.backends.cpu.ops as ops;"
        "ops.logger.warning('heard'); ops.logger.error('an error')"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "an error"
