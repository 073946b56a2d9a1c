"""Indexes on the journal: what was changed of an object is found without a look at every row."""

from alembic import op

revision = "0003"
down_revision = "0002"

# The words in which the engines differ.
_SQLITE = {"snapshot": 'coalesce("after", "before")', "place": "instr", "has_other": "GLOB '*[^ -~]*'"}
_POSTGRESQL = {"snapshot": "coalesce(after, before)", "place": "strpos", "has_other": "~ '[^ -~]'"}


def upgrade() -> None:
    """Make the indexes. Who reads is not kept waiting meanwhile, on either engine; who changes something is."""
    words = _POSTGRESQL if op.get_context().dialect.name == "postgresql" else _SQLITE
    op.execute("CREATE INDEX change_object ON change (lower(object))")
    op.execute(f"CREATE INDEX change_object_other ON change (object) WHERE object {words['has_other']}")
    op.execute("CREATE INDEX change_upgrade ON change (id) WHERE operation = 'database.upgrade'")

    # The number in a field of the snapshots, as it stands there: "id": 7,
    snapshot, place = words["snapshot"], words["place"]
    for name, field in (("number", '"id": '), ("member", '"member": {'), ("group", '"group": {"group": ')):
        begins = f"{place}({snapshot}, '{field}')"
        key = f"substr(substr({snapshot}, {begins}), 1, {place}(substr({snapshot}, {begins}), ','))"
        op.execute(f"CREATE INDEX change_{name} ON change ({key}) WHERE {begins} > 0")
