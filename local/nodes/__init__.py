"""Simulated nodes: Linux network namespaces with their own firewalls, joined as Azure joins them.

A *fabric* is one process (`python -m local.nodes`, in namespaces that `client` makes with unshare) for one
virtual network and those it is peered with. It forks a process for each node, which holds the node's
namespaces, listens on the kubelet's port and runs scripts. Where namespaces are not to be had, `recorded`
runs scripts over recorded text.
"""
