"""One script run to its end, as the Run Command extension runs it: /bin/sh on a file, output into files.

Output goes to files and not through pipes, so that what a script leaves in the background keeps nobody
waiting.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from local.nodes.description import Outcome

KEPT = 65_536
"""Bytes of output that are kept, from the end: many times what Azure keeps."""


async def run(
    text: bytes,
    *,
    file: Path,
    environment: Mapping[str, str],
    seconds: float,
    scratch: Path,
    wrapper: Sequence[str] = (),
) -> Outcome:
    """Write a script to a file and run it; when its time is over, it and all it started are killed.

    Raises OSError where it cannot even be started. `scratch` is a directory for the output, which leaves no
    name there; `wrapper` is a command that runs another.
    """
    _write(text, file)
    with tempfile.TemporaryFile(dir=scratch) as stdout, tempfile.TemporaryFile(dir=scratch) as stderr:
        process = await asyncio.create_subprocess_exec(
            *wrapper,
            "/bin/sh",
            str(file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=dict(environment),
            cwd=file.parent,
            start_new_session=True,
        )
        status: int | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    status = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return Outcome(_end(stdout), _end(stderr), status)


def _write(text: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)


def _end(stream: IO[bytes]) -> bytes:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - KEPT))
    return stream.read()
