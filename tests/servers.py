"""Public name of `support.servers` for scripts that start servers from a checkout."""

from support.servers import start_mariadb, start_postgres

__all__ = ["start_mariadb", "start_postgres"]
