"""What is known of a cluster's nodes from probes: kept from the last round, or looked at now."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

from msgspec import Struct, structs

from facts.filters import Missing
from facts.finding import CheckResult, Finding, Reason
from facts.probes import NodeReport, Probes
from facts.resource_id import key
from facts.snapshot import PROBES_DISABLED, Snapshot
from pipeline import telemetry
from pipeline.clients import Clients
from pipeline.probe import evidence
from pipeline.probe.evidence import Look
from pipeline.probe.run_command import probe
from pipeline.probe.sample import Target, addresses, choose, machines
from pipeline.record import utc_now
from pipeline.run import cluster_key
from pipeline.store import Store

CONFIRMED = frozenset({"nsg-kubelet-port"})
"""Checks of configuration whose faults a probe can confirm, or contradict."""

_SHARE = 0.6
"""The part of the time for a cluster's scan that probing may take."""
_SECONDS = 150
"""The longest time for probing a cluster: a run command takes about 20 s, and a long report several."""
_ROUNDS = 3
"""Rounds of probes for which a look at a node counts."""


class NodeProbes(Struct, frozen=True):
    """Probes of one cluster in one scan."""

    clients: Clients
    store: Store
    snapshot: Snapshot
    scan_id: str
    open_findings: Collection[Finding]
    """What was open on the cluster before this scan."""

    async def known(self, *, due: bool) -> Snapshot:
        """The snapshot with what is known from probes; they are made now if they are due.

        They are also made where a cluster has never been probed, and where a node was busy.
        """
        if not self.clients.settings.node_probes:
            return structs.replace(self.snapshot, probes=PROBES_DISABLED)
        nodes = machines(self.snapshot)
        looks = await self._looks(nodes)
        if due or (nodes and not looks):
            chosen = choose(
                nodes,
                self.scan_id,
                per_pool=self.clients.settings.node_probes_per_pool,
                suspects=self._suspects() | {machine for machine, look in looks.items() if look.missing},
            )
        else:
            busy = [machine for machine, look in looks.items() if _is_busy(look)]
            chosen = tuple(nodes[machine] for machine in busy)
        # A message that was delivered again finds what it had already.
        chosen = tuple(target for target in chosen if not self._seen(looks, target))
        if chosen:
            looks |= await self._probe(chosen, nodes)
        return structs.replace(self.snapshot, probes=self._assembled(nodes, looks))

    def to_be_confirmed(self, results: Iterable[CheckResult]) -> bool:
        """Whether a check that probes can confirm found something that was not there before."""
        before = {finding.id for finding in self.open_findings}
        return self.clients.settings.node_probes and any(
            finding.id not in before
            for result in results
            if result.check in CONFIRMED
            for finding in result.findings
        )

    async def _looks(self, nodes: dict[str, Target]) -> dict[str, Look]:
        """The latest looks at nodes that are still there."""
        kept = await evidence.load(self.store, self._cluster)
        gone = [machine for machine in kept if machine not in nodes]
        if not any(pool.missing for pool in self.snapshot.pools):
            await evidence.forget(self.store, self._cluster, gone)
        return {machine: look for machine, look in kept.items() if machine in nodes}

    async def _probe(self, chosen: tuple[Target, ...], nodes: dict[str, Target]) -> dict[str, Look]:
        """Probe nodes, unless somebody is at it; returns what was seen."""
        seconds = min(_SECONDS, self.clients.settings.scan_timeout_seconds * _SHARE)
        lasting = timedelta(seconds=seconds + 30)
        lease = await evidence.take_lease(
            self.store, self._cluster, self.scan_id, now=utc_now(), lasting=lasting
        )
        if lease is None:
            telemetry.log.info("the nodes are being probed already; what that brings will do")
            return {}
        trying = addresses(chosen, nodes, self.scan_id, suspects=self._suspects())
        ends_at = asyncio.get_running_loop().time() + seconds
        try:
            # All of them end before the lease does, whatever becomes of one.
            looks = await asyncio.gather(
                *(self._look(target, trying, ends_at) for target in chosen), return_exceptions=True
            )
        finally:
            await evidence.end_lease(self.store, self._cluster, lease, now=utc_now())
        found: dict[str, Look] = {}
        for look in looks:
            if isinstance(look, BaseException):
                raise look
            found[key(look.machine_id)] = look
        telemetry.log.info(
            "probed %d nodes: %d reports",
            len(chosen),
            sum(look.report is not None for look in found.values()),
        )
        return found

    async def _look(self, target: Target, trying: Mapping[str, str], ends_at: float) -> Look:
        """Probe one node and keep what it says."""
        machine_id = target.node.machine_id
        others = {address: machine for address, machine in trying.items() if key(machine) != key(machine_id)}
        at = utc_now()
        async with self.clients.run_commands:
            left = ends_at - asyncio.get_running_loop().time()
            seen = (
                await probe(self.clients, target, tuple(others), within=left)
                if left > 0
                else _too_late(target)
            )
        look = Look(
            machine_id=machine_id,
            at=at,
            scan_id=self.scan_id,
            report=structs.replace(seen, asked=others) if isinstance(seen, NodeReport) else None,
            missing=seen if isinstance(seen, Missing) else None,
        )
        await evidence.save(self.store, self._cluster, look)
        return look

    def _assembled(self, nodes: dict[str, Target], looks: dict[str, Look]) -> Probes:
        """What counts: looks of the last rounds, and whatever else of nodes under suspicion."""
        suspects = self._suspects()
        oldest = utc_now() - self.clients.settings.probe_interval * _ROUNDS
        reports, unread = [], []
        for machine, target in nodes.items():
            look = looks.get(machine)
            if look is None and machine in suspects:
                unread.append(_unseen(target))
            if look is None or (look.at < oldest and machine not in suspects):
                continue
            if look.report is not None:
                reports.append(look.report)
            if look.missing is not None:
                unread.append(look.missing)
        unread += self._untried(nodes, reports)
        return Probes(reports=tuple(reports), unread=tuple(unread))

    def _untried(self, nodes: dict[str, Target], reports: Iterable[NodeReport]) -> list[Missing]:
        """Nodes that an open finding says somebody could not reach, and that somebody did not try again."""
        asked = {
            key(report.machine_id): {key(machine) for machine in report.asked.values()} for report in reports
        }
        found = {}
        for finding in self.open_findings:
            for pair in _listed(finding.evidence.get("pairs")):
                source, target = (key(str(pair.get(end) or "")) for end in ("fromMachine", "toMachine"))
                if source in asked and target in nodes and target not in asked[source]:
                    found[target] = _unseen(nodes[target])
        return list(found.values())

    def _suspects(self) -> frozenset[str]:
        """The machines that open findings name among their nodes, as keys."""
        return frozenset(
            key(str(node.get("machineId") or ""))
            for finding in self.open_findings
            for node in _listed(finding.evidence.get("nodes"))
        )

    def _seen(self, looks: dict[str, Look], target: Target) -> bool:
        look = looks.get(key(target.node.machine_id))
        return look is not None and look.scan_id == self.scan_id

    @property
    def _cluster(self) -> str:
        return cluster_key(self.snapshot.cluster.ref.id)


def _listed(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list | tuple) else []


def _is_busy(look: Look) -> bool:
    return look.missing is not None and look.missing.reason.code == "busy"


def _too_late(target: Target) -> Missing:
    what = f'node "{target.node.name}"'
    message = f"Could not probe {what}: its turn did not come within the time of this scan."
    return Missing(
        what=what,
        resource_id=target.node.machine_id,
        reason=Reason(code="timeout", message=message, resource=target.node.machine_id),
    )


def _unseen(target: Target) -> Missing:
    what = f'node "{target.node.name}"'
    message = f"A finding names {what}, and it has not been probed again since."
    return Missing(
        what=what,
        resource_id=target.node.machine_id,
        reason=Reason(code="no_data", message=message, resource=target.node.machine_id),
    )
