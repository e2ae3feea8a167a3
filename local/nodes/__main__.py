"""`python -m local.nodes`: a fabric, for the Azure simulator to talk to.

It has to be started in namespaces of its own, as `local.nodes.client` does, and refuses otherwise.
"""

import os
import sys

import msgspec

from local.nodes.description import Network
from local.nodes.fabric import serve


def main() -> int:
    """Read the network from the first line of standard input, and serve it."""
    if os.getpid() != 1:  # the first process of its PID namespace takes all others with it
        print(
            "local.nodes: it is started by the Azure simulator, in namespaces of its own; start that: "
            "python -m local.azure --fleet DIR",
            file=sys.stderr,
        )
        return 2
    # unbuffered: what comes after the first line is for the event loop to read
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, 1)
        if not part:
            return 0
        line += part
    try:
        serve(msgspec.json.decode(line, type=Network))
    except OSError as error:
        print(f"local.nodes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
