"""Describes the machine that the figures were taken on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """What a reader needs to judge the figures; nothing that names the machine. Called before the first run."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    kilobytes = int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo"))
    return {
        "processor": _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo"),
        "cores": str(os.cpu_count()),
        "memory": f"{kilobytes / (1 << 20):.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": release.get("PRETTY_NAME", "unknown"),
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _first(pattern: str, path: str) -> str:
    match = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    return match[1].strip() if match else "0"
