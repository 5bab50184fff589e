"""Fields that descriptions of hotels and of rooms share."""

from typing import Annotated

from pydantic import Field, StringConstraints

from ingress.http.models import HttpsUrl, Line

Photos = Annotated[list[HttpsUrl], Field(max_length=50, description="Web addresses, kept and shown, never fetched.")]
Amenities = Annotated[list[Annotated[Line, StringConstraints(max_length=100)]], Field(max_length=100)]
