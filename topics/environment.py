"""The kind of environment that a process runs in: in production, settings with development defaults are refused."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

#: The field `environment` of every settings class that has development defaults.
Environment: TypeAlias = Annotated[
    Literal["development", "production"],
    Field(default="development", description="`production` refuses development defaults."),
]
