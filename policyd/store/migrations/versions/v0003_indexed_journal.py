"""Indexes on the journal: what was changed of an object is found without a look at every row."""

from alembic import op

revision = "0003"
down_revision = "0002"

# The words in which the engines differ.
_SQLITE = {"snapshot": 'coalesce("after", "before")', "place": "instr", "has_other": "GLOB '*[^ -~]*'"}
_POSTGRESQL = {"snapshot": "coalesce(after, before)", "place": "strpos", "has_other": "~ '[^ -~]'"}


def upgrade() -> None:
    """Make the indexes. Who reads is not kept waiting meanwhile; who changes something is."""
    words = _POSTGRESQL if op.get_context().dialect.name == "postgresql" else _SQLITE
    snapshot, place = words["snapshot"], words["place"]
    member = f"""{place}({snapshot}, '"member": ')"""
    from_member = f"substr({snapshot}, {member})"
    for name, key, where in (
        ("object", "lower(object)", ""),
        ("object_other", "object", f"object {words['has_other']}"),
        ("number", f"substr({snapshot}, 1, {place}({snapshot}, ','))", f"""substr({snapshot}, 1, 7) = '{{"id": '"""),
        ("member", f"substr({from_member}, 1, {place}({from_member}, ','))", f"{member} > 0"),
        ("upgrade", "id", "operation = 'database.upgrade'"),
    ):
        op.execute(f"CREATE INDEX change_{name} ON change ({key}){f' WHERE {where}' if where else ''}")
