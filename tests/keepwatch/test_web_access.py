"""TLS and users by web.config.yml, over real connections: who comes in, who stays outside, and what a change does."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import bcrypt
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.exporting import WebSettings
from keepwatch.web import access as access_module
from keepwatch.web.opening import open_server
from keepwatch.web.web_config import WebConfigError, openssl_cipher, read_web_config
from tests.keepwatch import web_samples as samples

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key%s}\n"


class Authority:
    """Signs certificates for servers and clients."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, is_authority=True)

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, is_authority: bool = False
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if is_authority else self.certificate.subject
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip

    def write(self, folder: Path, name: str) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key)
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority()
    made.write(tmp_path, "server")
    return made


def write(folder: Path, text: str) -> Path:
    path = folder / "web.config.yml"
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def serving(folder: Path, text: str, listen: str = "127.0.0.1:0", **more: str) -> Iterator[str]:
    settings = WebSettings(listen=listen, web_config_file=write(folder, text), **more)  # type: ignore[arg-type]
    server = open_server(settings, "erp-1", samples.healthy, lambda: samples.NOW, lambda: b"node_x 1\n")
    server.start()
    try:
        yield server.url.rstrip("/")
    finally:
        server.stop()


def trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def users(**passwords: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {name}: {hashed}\n" for name, hashed in passwords.items())


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics/node", "/-/healthy", "/api/v1/view", "/nowhere"])
def test_every_address_asks_who_it_is(tmp_path: Path, path: str) -> None:
    with serving(tmp_path, users(ann=HASH)) as url:
        refused = httpx.get(url + path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert httpx.get(url + path, auth=("ann", PASSWORD)).status_code == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Basic YW5u", "Bearer abc", "Basic /////w==", "Basic YW5uOgA="],
)
def test_what_is_no_name_and_password_is_refused(tmp_path: Path, header: str) -> None:
    with serving(tmp_path, users(ann=HASH)) as url:
        assert httpx.get(url, headers={"Authorization": header}).status_code == 401


def test_wrong_passwords_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path, users(ann=HASH)) as url:
        for name, password in (("ann", "wrong"), ("bob", PASSWORD), ("ann", ""), ("ann", PASSWORD + "x")):
            assert httpx.get(url, auth=(name, password)).status_code == 401


def test_a_password_is_compared_once_and_then_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = access_module._matches

    def counted(password: bytes, hashed: str) -> bool:
        compared.append(password)
        return real(password, hashed)

    monkeypatch.setattr(access_module, "_matches", counted)
    with serving(tmp_path, users(ann=HASH)) as url:
        for _ in range(3):
            assert httpx.get(url, auth=("ann", PASSWORD)).status_code == 200
            assert httpx.get(url, auth=("ann", "wrong")).status_code == 401
    assert compared == [PASSWORD.encode(), b"wrong"]


def test_what_nobody_is_compared_with_is_a_real_hash() -> None:
    assert bcrypt.checkpw(b"anything", access_module._NOBODY.encode()) is False




def test_a_user_who_is_taken_out_stays_outside_from_the_next_request_on(tmp_path: Path) -> None:
    with serving(tmp_path, users(ann=HASH, bob=HASH)) as url, httpx.Client(auth=("bob", PASSWORD)) as bob:
        assert bob.get(url).status_code == 200
        write(tmp_path, users(ann=HASH))
        assert bob.get(url).status_code == 401


def test_a_file_that_became_bad_lets_the_old_users_in_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, users(ann=HASH)) as url:
        write(tmp_path, users(ann="plain text"))
        assert httpx.get(url, auth=("ann", PASSWORD)).status_code == 200
        assert httpx.get(url).status_code == 401
    assert caplog.text.count("web config refused") == 1
    assert "plain text" not in caplog.text


def test_tls_is_spoken_with_the_certificate_of_the_file(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, TLS % "" + users(ann=HASH)) as url:
        assert url.startswith("https://")
        with httpx.Client(verify=trusting(tmp_path), auth=("ann", PASSWORD)) as client:
            assert "keepwatch_build_info" in client.get(f"{url}/metrics").text
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http"))


def certificate_of(url: str, folder: Path) -> bytes:
    host, port = url.removeprefix("https://").split(":")
    plain = socket.create_connection((host, int(port)), 5)
    with trusting(folder).wrap_socket(plain, server_hostname="localhost") as secure:
        return secure.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, TLS % "") as url:
        first = certificate_of(url, tmp_path)
        renewed = authority.write(tmp_path, "server")
        assert certificate_of(url, tmp_path) == renewed.public_bytes(serialization.Encoding.DER) != first


def test_a_certificate_whose_key_is_not_there_yet_leaves_the_old_one_in_use(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, TLS % "") as url:
        first = certificate_of(url, tmp_path)
        kept = (tmp_path / "server.key").read_bytes()
        authority.write(tmp_path, "server")
        (tmp_path / "server.key").write_bytes(kept)
        assert certificate_of(url, tmp_path) == first
    assert "web config refused" in caplog.text


def test_a_client_certificate_can_be_demanded(tmp_path: Path, authority: Authority) -> None:
    authority.write(tmp_path, "prometheus")
    Authority().write(tmp_path, "stranger")
    (tmp_path / "ca.crt").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    demand = TLS % ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
    with serving(tmp_path, demand) as url:
        with httpx.Client(verify=trusting(tmp_path, "prometheus")) as client:
            assert client.get(f"{url}/metrics").status_code == 200
        for stranger in (trusting(tmp_path), trusting(tmp_path, "stranger")):
            with httpx.Client(verify=stranger) as client, pytest.raises(httpx.HTTPError):
                client.get(f"{url}/metrics")


def test_an_old_tls_version_is_refused_where_the_file_asks_for_1_3(tmp_path: Path, authority: Authority) -> None:
    with serving(tmp_path, TLS % ", min_version: TLS13") as url:
        old = trusting(tmp_path)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with httpx.Client(verify=old) as client, pytest.raises(httpx.HTTPError):
            client.get(url)
        with httpx.Client(verify=trusting(tmp_path)) as client:
            assert client.get(url).status_code == 200


def test_headers_of_the_file_are_set(tmp_path: Path, authority: Authority) -> None:
    headers = "http_server_config: {headers: {Strict-Transport-Security: max-age=31536000}}\n"
    with serving(tmp_path, headers) as url:
        assert httpx.get(url).headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9750", 200), ("[2001:db8::1]:9750", 200), ("192.0.2.7", 200), ("erp-1", 200), ("ERP-1:80", 200),
        ("keepwatch.example.com:9750", 200), ("evil.example.com", 421), ("127.0.0.1.evil.example.com", 421),
        ("erp-1:x", 421),
    ],
)  # fmt: skip
def test_only_its_own_names_and_addresses_are_answered(tmp_path: Path, host: str, status: int) -> None:
    outside = "https://keepwatch.example.com:9750/"
    with serving(tmp_path, users(ann=HASH), listen="0.0.0.0:0", external_url=outside) as url:
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(here, headers={"Host": host}, auth=("ann", PASSWORD)).status_code == status


BAD = [
    ("users: {}", "users is not known"),
    ("- a", "the file must be a mapping"),
    ("a: [", "it is no YAML at line 1"),
    ("basic_auth_users: {ann: secret}", "has no bcrypt hash for ann"),
    ("basic_auth_users: [ann]", "basic_auth_users must be a mapping"),
    ("tls_server_config: {cert_file: server.crt}", "tls_server_config.key_file is missing"),
    (TLS % ", min_version: TLS10", "min_version must be one of TLS12, TLS13, not TLS10"),
    (TLS % ", client_auth_type: RequireAnyClientCert", "asks for certificates that nobody checks"),
    (TLS % ", client_auth_type: Never", "client_auth_type must be one of"),
    (TLS % ", client_ca_file: ca.crt", "belong together"),
    (TLS % ", client_auth_type: RequireAndVerifyClientCert", "belong together"),
    (TLS % ", curve_preferences: [CurveP256, X25519]", "curve_preferences can be one of"),
    (TLS % ", cipher_suites: [TLS_FOO_WITH_BAR]", "taking min_version, max_version, cipher_suites"),
    (TLS % ", prefer_server_cipher_suites: maybe", "must be true or false"),
    (TLS % ", client_allowed_sans: [a]", "client_allowed_sans is not known"),
    ("tls_server_config: {cert_file: nowhere.crt, key_file: server.key}", "nowhere.crt"),
    ("http_server_config: {headers: {X-Other: a}}", "headers.X-Other is not known"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_file_is_an_error_that_names_what_is_wrong(
    tmp_path: Path, authority: Authority, text: str, said: str
) -> None:
    with pytest.raises(WebConfigError) as error:
        access_module.Access(write(tmp_path, text))
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WebConfigError, match="No such file"):
        read_web_config(tmp_path / "web.config.yml")


def test_a_key_with_a_passphrase_is_refused_without_asking(tmp_path: Path, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(b"x")
    (tmp_path / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    )
    with pytest.raises(WebConfigError, match="passphrase"):
        access_module.Access(write(tmp_path, TLS % ""))


@pytest.mark.parametrize(
    ("go", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"),
    ],
)
def test_cipher_suites_are_those_that_openssl_knows(go: str, openssl: str) -> None:
    assert openssl_cipher(go) == openssl
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(openssl)


def test_a_file_without_users_is_said_to_leave_the_page_open(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    access_module.Access(write(tmp_path, TLS % ""))
    assert "page open to everybody" in caplog.text
    caplog.clear()
    access_module.Access(write(tmp_path, users(ann=HASH)))
    assert caplog.text == ""
