"""Two nodes, each with a network namespace, containerd, kubelet and kube-proxy of its own, and its own egress address."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import procs
import store
from addresses import API, DNS, NODES, POD_NETWORK
from gobuild import PAUSE_IMAGE

BRIDGE = "kbr0"

CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
# the opt plugin would leave a folder on the machine; the others look for file systems that are not here
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true  # no CAP_SYS_RESOURCE in a container such as CI's
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""

# block style: a file that begins with { is taken for JSON
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
containerRuntimeEndpoint: "unix://{folder}/containerd.sock"
failSwapOn: false
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {{}}
clusterDNS: ["{dns}"]
clusterDomain: cluster.local
resolvConf: {state}/resolv.conf
podLogsDir: {folder}/pod-logs
volumePluginDir: {folder}/volume-plugins
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 16
"""

PROXY = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {pods}
hostnameOverride: {name}
clientConnection: {{kubeconfig: {state}/kubeconfig/admin}}
conntrack: {{maxPerCore: 0, min: 0}}
"""


@dataclass(frozen=True)
class Node:
    """One node and its programs; `programs` has the keys containerd, kubelet, kube-proxy once they run."""

    name: str
    address: str
    pods: str
    zone: str
    folder: Path
    programs: dict[str, procs.Program]

    @property
    def socket(self) -> Path:
        """Containerd's socket."""
        return self.folder / "containerd.sock"


def namespace(name: str, addresses: list[str]) -> None:
    """Make a network namespace with these addresses on the bridge, all else through the bridge's own address."""
    procs.run(["ip", "netns", "add", name])
    link = f"v-{name}"[:15]
    procs.run(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name])
    procs.run(["ip", "link", "set", link, "master", BRIDGE, "up"])
    lines = [*(f"addr add {address}/24 dev eth0" for address in addresses), "link set eth0 up", "link set lo up"]
    procs.run(["ip", "-netns", name, "-batch", "-"], stdin="\n".join([*lines, f"route add default via {API}", ""]))


def prepare(programs: procs.Programs, state: Path, name: str, lender: str) -> Node:
    """Make the node's namespace and start its containerd, which needs no API server; `lender` is a store or empty."""
    address, pods, zone = NODES[name]
    folder = state / name
    for part in ("cni", "kubelet", "pod-logs"):
        (folder / part).mkdir(parents=True)
    namespace(name, [address])
    procs.run(["nsenter", f"--net=/run/netns/{name}", "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    for other, (via, other_pods, _) in NODES.items():  # pods of both nodes, and we, reach one another
        where = [] if other == name else ["-netns", name]
        procs.run(["ip", *where, "route", "add", other_pods, "via", via])
    (folder / "cni" / "10.conflist").write_text(json.dumps(pod_network(folder, pods)))
    (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder, pause=PAUSE_IMAGE))
    values = {"folder": folder, "state": state, "dns": DNS, "name": name, "pods": POD_NETWORK}
    (folder / "kubelet.yaml").write_text(KUBELET.format(**values))
    (folder / "proxy.yaml").write_text(PROXY.format(**values))
    if lender:
        store.lend(Path(lender), folder / "root")
    node = Node(name, address, pods, zone, folder, {})
    argv = ["containerd", "-c", f"{folder}/containerd.toml"]
    node.programs["containerd"] = programs.start(f"{name}-containerd", argv, netns=name)
    return node


def pod_network(folder: Path, pods: str) -> dict[str, object]:
    """The CNI configuration: a bridge whose pods leave through the node's own address."""
    ipam = {
        "type": "host-local",
        "dataDir": f"{folder}/ipam",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def import_images(node: Node, archives: list[Path]) -> None:
    """Give the node its images, in this order."""
    procs.wait(f"containerd of {node.name}", lambda: store.answers(node.socket), node.programs["containerd"])
    for archive in archives:
        store.add(node.socket, archive)


def join(programs: procs.Programs, state: Path, node: Node) -> None:
    """Start the node's kubelet and kube-proxy; the API server must be there."""
    kubelet = [
        f"{state}/bin/kubelet",
        f"--config={node.folder}/kubelet.yaml",
        f"--kubeconfig={state}/kubeconfig/{node.name}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={node.folder}/kubelet",
        f"--cert-dir={node.folder}/kubelet/pki",
        f"--node-labels=topology.kubernetes.io/zone={node.zone}",
    ]
    node.programs["kubelet"] = programs.start(f"{node.name}-kubelet", kubelet, netns=node.name)
    proxy = [f"{state}/bin/kube-proxy", f"--config={node.folder}/proxy.yaml"]
    node.programs["kube-proxy"] = programs.start(f"{node.name}-kube-proxy", proxy, netns=node.name)
