"""What Alembic runs for every command: on the connection that `migrating` opened, locked and will commit."""

from alembic import context  # noqa: TID253 -- only Alembic itself loads this module

from mlops_plugin.events.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=lambda name, kind, _parents: kind != "table" or name in metadata.tables,
)
with context.begin_transaction():
    context.run_migrations()
