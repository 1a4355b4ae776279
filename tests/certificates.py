"""Certificates for the tests of secure connections, made with the `openssl` command: PEM, elliptic, quick."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def together(self) -> Path:
        """Give one file with the key and the certificate, as Kafka's PEM key stores have them."""
        both = self.key.with_suffix(".both.pem")
        both.write_text(self.key.read_text() + self.certificate.read_text())
        return both


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *_new_key(self._key), "-x509", "-days", "3650", "-subj", "/CN=tests", "-out", self.certificate
        )

    def issue(self, name: str, host: str = "", days: int = 30, password: str = "") -> Certificate:
        """Issue a certificate for a host (an address), or for a client; it has expired where `days` is -1."""
        files = {end: self._folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext")}
        _openssl(*_new_key(files["key"], password), "-subj", f"/CN={name}", "-out", files["csr"])
        files["ext"].write_text(f"subjectAltName={f'IP:{host}' if host else f'DNS:{name}'}\n")
        signed = ["-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", days]
        _openssl("x509", "-req", "-in", files["csr"], *signed, "-extfile", files["ext"], "-out", files["pem"])
        return Certificate(files["pem"], files["key"])


def _new_key(file: Path, password: str = "") -> list[object]:
    secret = ["-passout", f"pass:{password}"] if password else ["-noenc"]
    return ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *secret, "-keyout", file]


def _openssl(*words: object) -> None:
    try:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no openssl command on this machine")
