"""Execution's settings: the only place that knows the private key."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tradingbot.domain.errors import Permanent
from tradingbot.runtime.settings import ServiceSettings

_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


class KeyUnreadable(Permanent):
    """The key's file cannot be used; its content is never shown."""


def _check_key(key: SecretStr) -> SecretStr:
    if not _KEY.fullmatch(key.get_secret_value().strip()):
        raise ValueError("must be a private key: 0x and 64 hex digits")
    return key


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("must be a file that exists and holds the private key")
    return path


class ExecutionSettings(ServiceSettings):
    """What execution alone is given. One of the two key settings is needed unless DRY_RUN is true."""

    hl_private_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(default=None, repr=False)
    """The API wallet's private key: 0x and 64 hex digits. An API wallet can trade but never withdraw; do not use the
    account's own key. Prefer HL_PRIVATE_KEY_FILE: an environment is easier to read than a file."""

    hl_private_key_file: Annotated[Path, AfterValidator(_check_file)] | None = None
    """A file that holds the key and nothing else, readable by this user alone. Read again when the service begins
    anew, so that a rotated key counts."""

    hl_vault_address: str | None = None
    """The sub-account or vault that is traded for, if any; HL_ACCOUNT_ADDRESS is then the same address, and the key an
    API wallet of the account that leads it. Default: none."""

    redis_accept_weak_durability: bool = False
    """true: trade on the main network although Redis may lose its last writes in a crash (appendfsync is not always).
    Default false: the preflight refuses that."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.hl_private_key is not None and self.hl_private_key_file is not None:
            raise ValueError("give one of HL_PRIVATE_KEY and HL_PRIVATE_KEY_FILE, not both")
        if not self.dry_run and self.hl_private_key is None and self.hl_private_key_file is None:
            raise ValueError("one of HL_PRIVATE_KEY and HL_PRIVATE_KEY_FILE is needed unless DRY_RUN is true")
        if not self.dry_run and self.hl_account_address is None:
            raise ValueError("the account that is traded, HL_ACCOUNT_ADDRESS, is needed unless DRY_RUN is true")
        return self

    def key(self) -> SecretStr | None:
        """The key, read now; None in DRY_RUN.

        Raises:
            KeyUnreadable: the file is gone, empty, or open to others.
        """
        if self.dry_run:
            return None
        if self.hl_private_key_file is None:
            return self.hl_private_key
        return _read_key(self.hl_private_key_file)


def _read_key(path: Path) -> SecretStr:
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnreadable(f"{path}: {type(error).__name__}") from None
    if mode & stat.S_IRWXO and os.access(path, os.R_OK):
        raise KeyUnreadable(f"{path} may be read by every user: chmod 600 it")
    if not key:
        raise KeyUnreadable(f"{path} is empty")
    return SecretStr(key)
