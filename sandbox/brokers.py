"""The programs that can carry the log of a system on this machine."""

from enum import StrEnum


class Broker(StrEnum):
    """The program that carries the log."""

    KAFKA = "kafka"
    TANSU = "tansu"
