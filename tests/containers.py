"""A cluster in a container, for a major without a local binary. Needs a Docker engine and the image; never required."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Self

from demo.clusters import DEFAULT_SETTINGS, SUPERUSER, Cluster, StopMode

if TYPE_CHECKING:
    from testcontainers.community.postgres import PostgresContainer

_PORT = 5432


@functools.cache
def docker_answers() -> bool:
    docker = which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], check=False, capture_output=True, timeout=20).returncode == 0


class ContainerCluster(Cluster):
    """The part of ``Cluster`` that a container can offer. ``bin_dir`` is a path inside the container."""

    _container: PostgresContainer | None = None

    @classmethod
    def of_image(cls, major: int) -> Self:
        return cls(major=major, bin_dir=Path(f"/usr/lib/postgresql/{major}/bin"), password="postgres")

    @property
    def running(self) -> bool:
        return self._container is not None

    def start(self) -> None:
        # Imported here: the package warns on import on machines that it does not know.
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

        if self._container is not None:
            return
        settings = {**DEFAULT_SETTINGS, "listen_addresses": "*", **self.settings}
        container = PostgresContainer(
            f"postgres:{self.major}", username=SUPERUSER, password=self.password, dbname="postgres", driver=None
        ).with_command(["postgres", *(part for item in settings.items() for part in ("-c", "=".join(item)))])
        container.start()
        self._container = container
        self.host = container.get_container_host_ip()
        self.port = int(container.get_exposed_port(_PORT))

    def stop(self, mode: StopMode = "fast") -> None:  # noqa: ARG002  a container knows one way
        """End the container, and its data with it."""
        if self._container is not None:
            self._container.stop()
            self._container = None
