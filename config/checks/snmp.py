"""Settings of checks of other devices over SNMP, versions 2c and 3: switches, routers, printers, air conditioning.

They need the extra `keepwatch[snmp]`.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from config.checks.base import CheckBase, Discovering, Readings
from config.expansion import SecretText
from config.model import Model

OBJECT_IDENTIFIER = r"^\.?\d+(\.\d+)+$"


class SnmpUser(Model):
    """A user of SNMP version 3 (RFC 3414). Without passwords nothing is proven, and everybody on the way can read."""

    name: str = Field(min_length=1, examples=["keepwatch"])
    """User name."""
    authentication: Literal["SHA", "SHA256", "SHA512", "MD5"] = "SHA256"
    """How messages are proven."""
    authentication_password: SecretText | None = Field(None, examples=["${SNMP_PASSWORD}"])
    """Secret for it, of 8 characters at least; messages are not proven without."""
    privacy: Literal["AES", "AES256", "DES"] = "AES"
    """How messages are encrypted."""
    privacy_password: SecretText | None = Field(None, examples=["${SNMP_PRIVACY_PASSWORD}"])
    """Secret for it, of 8 characters at least; messages are not encrypted without."""

    @model_validator(mode="after")
    def _is_whole(self) -> "SnmpUser":
        if self.privacy_password and not self.authentication_password:
            raise ValueError("privacy_password needs an authentication_password: SNMP encrypts nothing unproven")
        for secret in (self.authentication_password, self.privacy_password):
            if secret and len(secret.get_secret_value()) < 8:
                raise ValueError("passwords have 8 characters at least (RFC 3414, 11.2)")
        return self


class SnmpTarget(Model):
    """How a device is asked."""

    host: str = Field(min_length=1, examples=["switch-1.example.com"])
    """Name or address."""
    port: int = Field(161, ge=1, le=65_535)
    """UDP port."""
    community: SecretText | None = Field(None, examples=["${SNMP_COMMUNITY}"])
    """Community of version 2c: a password that everybody on the way can read."""
    user: SnmpUser | None = Field(
        None,
        examples=[{"name": "keepwatch", "authentication_password": "${SNMP_A}", "privacy_password": "${SNMP_B}"}],
    )
    """User of version 3."""

    @model_validator(mode="after")
    def _is_known(self) -> "SnmpTarget":
        if (self.community is None) == (self.user is None):
            raise ValueError("needs either a community (version 2c) or a user (version 3)")
        return self


_DEFAULTS: dict[str, Any] = {"every": "1m", "timeout": "20s"}


class SnmpUptimeCheck(SnmpTarget, CheckBase):
    """Whether a device answers, and since when it is up. Main reading `uptime` (seconds); also `response_time`
    (seconds). Critical when there is no answer.
    """

    type: Literal["snmp_uptime"]
    readings: ClassVar[Readings] = {"uptime": "seconds", "response_time": "seconds"}
    defaults = {**_DEFAULTS, "warning": {"raise": "< 10m", "clear": "> 10m"}}


class SnmpInterfacesCheck(SnmpTarget, Discovering):
    """Interfaces of a device (IF-MIB), an entity each, by name. Main reading `down` (1 when it is switched on and has
    no link); also `errors` (ratio of packets, both ways), `receive_bytes_per_second`, `transmit_bytes_per_second`,
    `discards_per_second`, `used` (ratio of its speed, the busier way).
    """

    type: Literal["snmp_interfaces"]
    readings: ClassVar[Readings] = {
        "down": "count",
        "errors": "ratio",
        "receive_bytes_per_second": "bytes_per_second",
        "transmit_bytes_per_second": "bytes_per_second",
        "discards_per_second": "per_second",
        "used": "ratio",
    }
    defaults = {
        **_DEFAULTS,
        "for": "5m",
        "warning": [{"reading": "errors", "raise": "> 1%"}, {"reading": "used", "raise": "> 90%"}],
    }


class SnmpSensorsCheck(SnmpTarget, Discovering):
    """Sensors of a device (ENTITY-SENSOR-MIB), an entity each, by name. Main reading `failed` (1 when the device says
    so); also `celsius`, `rpm`, `volts`, `amperes`, `watts`, `humidity` (ratio).
    """

    type: Literal["snmp_sensors"]
    readings: ClassVar[Readings] = {
        "failed": "count",
        "celsius": "celsius",
        "rpm": "rpm",
        "volts": "number",
        "amperes": "number",
        "watts": "number",
        "humidity": "ratio",
    }
    defaults = {**_DEFAULTS, "warning": "> 0"}


class SnmpValueCheck(SnmpTarget, CheckBase):
    """One number of a device, by its object identifier. Main reading `value`."""

    type: Literal["snmp_value"]
    readings: ClassVar[Readings] = {"value": "number"}
    defaults = _DEFAULTS
    oid: str = Field(pattern=OBJECT_IDENTIFIER, examples=["1.3.6.1.4.1.318.1.1.1.2.2.1.0"])
    """Object identifier, with its instance."""
    factor: float = 1.0
    """What the number is multiplied by, such as 0.1 where a device counts tenths."""


SnmpCheck = SnmpUptimeCheck | SnmpInterfacesCheck | SnmpSensorsCheck | SnmpValueCheck
