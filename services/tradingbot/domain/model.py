"""The base of every model on the wire: frozen, strict for writers, lenient for readers."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen; constructing one with an unknown field is an error, reading one with extra fields is not.

    That is how an old reader goes on when a newer writer adds an optional field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", allow_inf_nan=False)

    @classmethod
    def read(cls, raw: str | bytes) -> Self:
        """Parse JSON as a reader does: unknown fields are ignored.

        Raises:
            pydantic.ValidationError: the text is not valid JSON or breaks the model.
        """
        return cls.model_validate_json(raw, extra="ignore")
