"""Runs of the probe script as Run Command makes them, on a node that is a network namespace."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from facts.probes import NodeReport
from pipeline.probe.frame import Piece, join, parameters, read_piece
from pipeline.probe.report import read_report
from tests.kernel import Lab

SCRIPT = Path(__file__).resolve().parents[3] / "pipeline" / "probe" / "probe.sh"
KEPT = 4_096
"""Bytes at the end of what a script printed that Run Command gives back."""
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
TAKEN_AT = "2026-11-25T12:00:00Z"
MACHINE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m"

_COREUTILS = "base64 cat cut date rm sha256sum sleep sort tail timeout tr"
TOOLS = (*_COREUTILS.split(), "awk", "gzip", "sed", "ufw", "nc", "bash", "nft", "python3")
FILTERS = tuple(
    f"{name}{which}" for name in ("iptables", "ip6tables") for which in ("", "-nft-save", "-legacy-save")
)


class Node:
    """A node to run the script on, with a shell of its own and whatever tools it is given."""

    def __init__(self, lab: Lab, directory: Path, *, shell: str = "dash") -> None:
        self.lab = lab
        self._directory = directory
        # What a shell is called decides how it behaves.
        self._shell = directory / "sh"
        self._shell.symlink_to(f"/bin/{shell}")
        self._script = SCRIPT.read_text(encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        """Puts another constant into the script."""
        assert self._script.count(old) == 1, old
        self._script = self._script.replace(old, new)

    def hasten(self) -> None:
        """Lets the script's time end after a few seconds, for tests of what it does then."""
        for old, new in (("STOP=20 ", "STOP=3 "), ("LATE=22 ", "LATE=5 "), ("ASK=12 ", "ASK=3 ")):
            self.change(f"\n{old}", f"\n{new}")

    def only(self, tools: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Leaves the script these of the machine's tools, and others that are scripts given here."""
        place = self._directory / "tools"
        place.mkdir()
        for name in tools:
            found = next(
                (
                    path
                    for part in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
                    if (path := Path(part, name)).exists()
                ),
                None,
            )
            if found is not None:
                (place / name).symlink_to(found)
        for name, text in (extra or {}).items():
            made = place / name
            made.unlink(missing_ok=True)
            made.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            made.chmod(0o755)
        self.change(_PATH, f"PATH={place}\n")

    def message(self, values: Sequence[tuple[str, str]]) -> str:
        """What Run Command gives back of a run with these parameters."""
        exported = " ".join(f"{name}={value}" for name, value in values)
        positional = " ".join(value for _, value in values)
        script = self._directory / "script.sh"
        script.write_text(f"export {exported}\nset -- {positional}\n{self._script}", encoding="utf-8")
        # Whatever the machine's own locale is; messages of tools have to be in English.
        done = self.lab.run(
            str(self._shell), str(script), check=False, env={"LC_ALL": "", "LANG": "de_DE.UTF-8"}
        )
        out = done.stdout.encode()[-KEPT:].decode("utf-8", "replace")
        err = done.stderr.encode()[-KEPT:].decode("utf-8", "replace")
        return f"Enable succeeded: \n[stdout]\n{out}\n[stderr]\n{err}"

    def piece(self, *, addresses: Sequence[str] = (), piece: int = 1, digest: str = "") -> Piece:
        """One run, and the piece that it brings."""
        nonce = os.urandom(8).hex()
        values = parameters(nonce, addresses=addresses, piece=piece, digest=digest)
        return read_piece(self.message(values), nonce)

    def pieces(self, addresses: Sequence[str] = ()) -> list[Piece]:
        """As many runs as it takes."""
        first = self.piece(addresses=addresses)
        others = [self.piece(piece=number, digest=first.digest) for number in range(2, first.pieces + 1)]
        return [first, *others]

    def report(self, addresses: Sequence[str] = ()) -> NodeReport:
        """The report of a whole probe."""
        pieces = self.pieces(addresses)
        return read_report(join(pieces), pieces[0].reach, node="aks-0", machine_id=MACHINE, taken_at=TAKEN_AT)


def dumps(report: NodeReport) -> dict[str, str]:
    """The texts of a report's dumps, by their names."""
    return {dump.name: dump.text for dump in report.dumps}


def unread(report: NodeReport) -> dict[str, str]:
    """The messages of what a report says could not be read, with their codes before them."""
    return {reason.message: reason.code for reason in report.unread}
