"""KubeRay's manifests: valid by its own definitions, and they fit each other, the catalog and the settings in them."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fleetbench.catalog.lookup import gpu_info
from fleetbench.engine import settings
from fleetbench.fleet.nodes import joining
from fleetbench.fleet.nodes.labels import GPU, GPUS, NODE, POOL
from fleetbench.matrix.read import read
from tests.infra import crds
from tests.infra.files import INFRA, document, strings

FOLDER = INFRA / "kuberay"
RAY = {"RayCluster": "cluster.yaml", "RayJob": "job.yaml", "RayCronJob": "nightly-cronjob.yaml"}
DEVICE = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
PART_OF = {"app.kubernetes.io/part-of": "fleetbench"}
MISSPELT: list[tuple[str, tuple[str | int, ...]]] = [
    ("RayCluster", ()),
    ("RayCluster", ("authOptions",)),
    ("RayCluster", ("workerGroupSpecs", 0)),
    ("RayCluster", ("workerGroupSpecs", 0, "template", "spec", "containers", 0)),
    ("RayCluster", ("headGroupSpec", "template", "spec", "volumes", 0, "emptyDir")),
    ("RayJob", ()),
    ("RayCronJob", ()),
    ("RayCronJob", ("jobTemplate",)),
    ("RayCronJob", ("jobTemplate", "rayClusterSpec", "headGroupSpec")),
]


@cache
def manifest(kind: str) -> dict[str, Any]:
    return document(FOLDER / RAY[kind])


def unshared(kind: str) -> dict[str, Any]:
    """A copy whose parts are their own, where the file has one part in several places."""
    found: dict[str, Any] = json.loads(json.dumps(manifest(kind)))
    return found


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = manifest("RayCluster")["spec"]
    return found


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster()["workerGroupSpecs"]
    return found


def pods() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster()["headGroupSpec"], *groups())]


def generated() -> dict[str, list[str]]:
    """Config maps by name: their files."""
    return {each["name"]: each["files"] for each in document(FOLDER / "kustomization.yaml")["configMapGenerator"]}


@pytest.mark.parametrize("kind", RAY)
def test_kuberay_takes_it(kind: str) -> None:
    assert manifest(kind)["kind"] == kind
    assert list(crds.mistakes(manifest(kind), crds.schema(kind))) == []


@pytest.mark.parametrize(("kind", "place"), MISSPELT, ids=str)
def test_a_misspelt_key_is_found(kind: str, place: tuple[str | int, ...]) -> None:
    broken = unshared(kind)
    part = broken["spec"]
    for step in place:
        part = part[step]
    part["sizelimit"] = "1Gi"
    (said,) = crds.mistakes(broken, crds.schema(kind))
    assert "sizelimit" in said


def test_a_wrong_value_is_found() -> None:
    broken = unshared("RayCluster")
    broken["spec"]["authOptions"]["mode"] = "tokens"
    (said,) = crds.mistakes(broken, crds.schema("RayCluster"))
    assert "tokens" in said


def test_the_night_runs_on_the_same_cluster_and_the_job_on_the_standing_one() -> None:
    assert manifest("RayCronJob")["spec"]["jobTemplate"]["rayClusterSpec"] == cluster()
    assert manifest("RayJob")["spec"]["clusterSelector"] == {
        "ray.io/cluster": manifest("RayCluster")["metadata"]["name"]
    }


def test_rays_autoscaler_sees_a_kind_of_node_in_each_group() -> None:
    from ray.autoscaler._private.kuberay import autoscaling_config  # noqa: PLC0415 - Ray is slow to import

    resource = {**manifest("RayCluster"), "metadata": {"name": "fleetbench", "namespace": "bench"}}
    types = autoscaling_config._derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
    assert types.pop("headgroup")["resources"]["CPU"] == 0
    for name, kind in types.items():
        assert name == kind["labels"][GPU]
        assert (kind["resources"]["GPU"], kind["resources"][NODE]) == (int(kind["labels"][GPUS]), 1)
        assert (kind["min_workers"], kind["max_workers"] > 0) == (0, True)


@pytest.mark.parametrize("group", groups(), ids=lambda group: str(group["groupName"]))
def test_a_group_asks_for_the_devices_of_its_tag_where_they_are(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    kind = gpu_info(group["labels"][GPU])
    assert kind is not None
    assert kind.name == group["labels"][GPU]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"][DEVICE[kind.vendor]] == group["labels"][GPUS]
    assert resources["limits"] == resources["requests"]
    assert pod["nodeSelector"] == {GPU: kind.name}
    assert [toleration["key"] for toleration in pod["tolerations"]] == [DEVICE[kind.vendor]]


def test_the_night_asks_for_no_kind_that_has_no_group() -> None:
    words = shlex.split(manifest("RayCronJob")["spec"]["jobTemplate"]["entrypoint"])
    matrix = read(FOLDER / Path(words[2]).name)
    assert set(matrix.hardware) <= {group["labels"][GPU] for group in groups()}


def test_every_pod_mounts_what_there_is() -> None:
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert volumes["warehouse"]["persistentVolumeClaim"] == {"claimName": warehouse()["metadata"]["name"]}
        assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} == set(generated())
        assert "Memory" in volumes["shm"]["emptyDir"]["medium"]
        at = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert (at["shm"], at["warehouse"]) == ("/dev/shm", "/warehouse")  # noqa: S108 - where shared memory is


def test_each_node_reads_settings_that_are_handed_out_and_right() -> None:
    for pod in pods():
        (container,) = pod["containers"]
        at = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
        (named,) = [Path(each["value"]) for each in container["env"] if each["name"] == settings.NODE_ENV]
        assert named.parent == at["settings"]
        assert named.name in generated()["fleetbench-node"]
        found = settings.read_text((FOLDER / named.name).read_text(), named.name)
        assert found.hub.token_file == at["hub-token"] / "token"
        assert found.cache == at["cache"]
        assert found.pool == cluster()["headGroupSpec"]["labels"][POOL]


def test_the_night_finds_its_matrix_and_warehouse_where_they_are_mounted() -> None:
    mounts = {each["name"]: each["mountPath"] for each in pods()[0]["containers"][0]["volumeMounts"]}
    for entrypoint in (
        manifest("RayJob")["spec"]["entrypoint"],
        manifest("RayCronJob")["spec"]["jobTemplate"]["entrypoint"],
    ):
        words = shlex.split(entrypoint)
        assert Path(words[2]).parent == Path(mounts["matrices"])
        assert Path(words[2]).name in generated()["fleetbench-matrices"]
        assert words[words.index("--warehouse") + 1] == mounts["warehouse"]


def test_ray_is_told_of_devices_what_node_up_tells_it() -> None:
    told = {
        **{f"RAY_EXPERIMENTAL_NOSET_{vendor}_VISIBLE_DEVICES": "1" for vendor in joining.LEFT_TO_LAUNCH},
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    for pod in pods():
        environ = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        assert told.items() <= environ.items()
    stores = {group["rayStartParams"]["object-store-memory"] for group in (cluster()["headGroupSpec"], *groups())}
    assert stores == {str(joining.OBJECT_STORE_BYTES)}


def test_secrets_are_files_and_nobody_runs_as_root() -> None:
    for pod in pods():
        assert [each for each in pod["containers"][0]["env"] if "value" not in each] == []
        (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert secret["defaultMode"] & 0o037 == 0
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_cluster_is_reached_with_a_token_and_not_from_outside() -> None:
    assert cluster()["authOptions"] == {"mode": "token"}
    assert cluster()["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in cluster()["headGroupSpec"]


def warehouse() -> dict[str, Any]:
    return document(FOLDER / "warehouse.yaml")


def test_the_warehouse_is_a_claim_that_many_nodes_can_write_to() -> None:
    volume = ("spec", "headGroupSpec", "template", "spec", "volumes", "*", "ephemeral", "volumeClaimTemplate", "spec")
    schema = crds.inside("RayCluster", *volume)
    assert (warehouse()["apiVersion"], warehouse()["kind"]) == ("v1", "PersistentVolumeClaim")
    assert list(crds.mistakes(warehouse()["spec"], schema)) == []
    assert warehouse()["spec"]["accessModes"] == ["ReadWriteMany"]
    assert list(crds.mistakes({**warehouse()["spec"], "accessMode": []}, schema)) != []


def test_the_network_policy_lets_in_whom_the_cluster_needs() -> None:
    policy = document(FOLDER / "network-policy.yaml")
    schema = crds.inside("RayCluster", "spec", "networkPolicy", "head", "ingressRules", "*")
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert set(policy["spec"]) == {"podSelector", "policyTypes", "ingress"}
    assert [list(crds.mistakes(rule, schema)) for rule in policy["spec"]["ingress"]] == [[], []]
    assert list(crds.mistakes({**policy["spec"]["ingress"][0], "form": []}, schema)) != []
    assert policy["spec"]["podSelector"]["matchLabels"] == PART_OF
    templates = [group["template"] for group in (cluster()["headGroupSpec"], *groups())]
    assert [template["metadata"]["labels"] for template in templates] == [PART_OF] * len(templates)


def test_kustomize_is_given_files_that_there_are() -> None:
    kustomization = document(FOLDER / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "resources", "generatorOptions", "configMapGenerator", "images"}
    files = [*kustomization["resources"], *(file for files in generated().values() for file in files)]
    assert [file for file in files if not (FOLDER / file).is_file()] == []
    used = {pod["containers"][0]["image"] for pod in pods()}
    assert {image["name"] for image in kustomization["images"]} == used


def test_no_manifest_holds_a_secret() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert document(path).get("kind") != "Secret"
        assert [text for text in strings(document(path)) if "hf_" in text] == []
