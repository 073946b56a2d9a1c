"""How the tables of an older policyd become those of this one, step by step, by Alembic.

A new version of the tables is a new file in `versions/`, and `policyd.store.schema.VERSION` one higher. What a revision
needs stands in its own file, as it was then: a revision that imports the schema would change with it.
"""
