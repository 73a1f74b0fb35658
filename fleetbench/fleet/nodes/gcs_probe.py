"""Asks a Ray head who it is.

In a process of its own: Ray's client waits for a minute where no Ray answers, then kills its process; and how it
authenticates it reads once.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray._private.services import find_node_ids
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError

CALL_S = 5


def ask(address: str) -> dict[str, Any]:
    """What the head says of itself and its living nodes, or `error`: `token` or `other`."""
    try:
        client = GcsClient(address=address)
        metadata = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=CALL_S)
        dashboard = client.internal_kv_get(b"webui:url", b"dashboard", timeout=CALL_S)
        nodes = client.get_all_node_info(timeout=CALL_S)
    except AuthenticationError:
        return {"error": "token"}
    except RpcError as error:
        return {"error": "other", "said": str(error)[:200]}
    versions = json.loads(metadata or b"{}")
    here: set[str] = find_node_ids()
    return {
        "ray": versions.get("ray_version"),
        "python": versions.get("python_version"),
        "dashboard": (dashboard or b"").decode() or None,
        "nodes": [
            {
                "node_id": key.hex(),
                "name": node.node_name,
                "address": node.node_manager_address,
                "port": node.node_manager_port,
                "labels": dict(node.labels),
                "head": node.is_head_node,
                "here": key.hex() in here,
                "socket": node.raylet_socket_name,
            }
            for key, node in nodes.items()
            if node.state == 0  # alive
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(sys.argv[1])) + "\n")
