"""The end of a certificate's validity, against what a real library says of the same bytes."""

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from monitor.probes.certificate import not_after


def der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("days_left", [-30, 30, 365 * 40])
def test_the_end_is_the_one_a_real_library_reads(certificate_file: Any, days_left: float) -> None:
    """40 years on lies beyond 2050, where certificates write four digits of the year."""
    data = der(certificate_file(days_left))
    assert not_after(data) == x509.load_der_x509_certificate(data).not_valid_after_utc
    assert abs(not_after(data) - datetime.now(UTC) - timedelta(days=days_left)) < timedelta(minutes=5)


def test_every_authority_of_this_machine_is_read(certificate_file: Any) -> None:
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    for data in [*authorities, der(certificate_file(1))]:
        with warnings.catch_warnings(action="ignore"):  # some old authority has an odd serial number
            truth = x509.load_der_x509_certificate(data).not_valid_after_utc
        assert not_after(data) == truth


@given(st.binary(max_size=100))
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        not_after(data)


def test_a_certificate_that_was_cut_is_refused(certificate_file: Any) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        not_after(der(certificate_file(1))[:60])
