"""Settings of a partner's own process, read from the file that starts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from foundation.errors import SettingsError

_LARGEST_FILE_BYTES = 65_536
S = TypeVar("S", bound=BaseModel)


def read_settings_file(path: Path, model: type[S], files: Sequence[str]) -> S:
    """Read settings from a JSON file; relative paths in the fields `files` count from its folder.

    Raises:
        SettingsError: the file cannot be read, or a key is wrong, missing or unknown.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE_BYTES + 1)
        if len(text) > _LARGEST_FILE_BYTES:
            raise SettingsError("config", "the file is too large for a provider's settings")
        settings = model.model_validate_json(text)
    except OSError as error:
        raise SettingsError("config", f"the file cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "config"
        raise SettingsError(place, first["msg"]) from None
    folder = path.absolute().parent
    return settings.model_copy(update={name: folder / getattr(settings, name) for name in files})
