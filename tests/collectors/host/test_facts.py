from __future__ import annotations

from pathlib import Path

from fleetbench_collectors.host import facts


def test_what_the_machine_does_not_say_is_none(tmp_path: Path) -> None:
    found = facts.facts(root=tmp_path)
    assert found["kernel"]
    assert (found["cpu_model"], found["memory_bytes"], found["governor"]) == (None, None, None)
    assert found["cgroup_quota_cores"] is None


def test_what_the_machine_says_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: A CPU @ 2 GHz: fast\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       24676000 kB\nMemFree: 1 kB\n")
    for cpu, governor in enumerate(("performance", "powersave", "performance")):
        place = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        place.mkdir(parents=True)
        (place / "scaling_governor").write_text(f"{governor}\n")
    found = facts.facts({"pyarrow": "26.0.1"}, root=tmp_path)
    assert found["cpu_model"] == "A CPU @ 2 GHz: fast"
    assert found["memory_bytes"] == str(24676000 * 1024)
    assert found["governor"] == "performance,powersave"
    assert found["version.pyarrow"] == "26.0.1"


def test_a_broken_memory_line_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: much\n")
    assert facts.memory_bytes(tmp_path) is None
