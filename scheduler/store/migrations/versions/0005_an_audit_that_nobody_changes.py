"""Lines of the audit cannot be changed, not even by a mistake of ours; old ones are deleted by retention"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit"
            " BEGIN SELECT RAISE(ABORT, 'lines of the audit are never changed'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION audit_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'lines of the audit are never changed'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit"
        " FOR EACH ROW EXECUTE FUNCTION audit_is_never_changed()"
    )
