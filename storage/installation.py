"""The id of this installation: a row of `installation`, made with the schema and kept by backups."""

from uuid import UUID

from psycopg import AsyncConnection


class NoInstallation(Exception):
    """The table `installation` has no row: a restore left it out."""


async def read(connection: AsyncConnection) -> UUID:
    """Return the installation's id. Raises NoInstallation."""
    row = await (await connection.execute("select id from installation")).fetchone()
    if row is None:
        raise NoInstallation("the table installation is empty: restore it from the backup")
    id: UUID = row[0]
    return id
