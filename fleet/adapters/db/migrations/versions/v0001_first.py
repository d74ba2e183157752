"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE_GUARD = """CREATE TRIGGER audit_no_{what} BEFORE {what} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"""
_POSTGRESQL_GUARD = """CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"""
_POSTGRESQL_TRIGGER = """CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"""


def upgrade() -> None:
    _nodes()
    _rollouts()
    _events()
    _results()
    _gaps()
    _access()
    _audit()
    _guard()


def _guard() -> None:
    """What was written to the audit stays as it is."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(_SQLITE_GUARD.format(what="update"))
        op.execute(_SQLITE_GUARD.format(what="delete"))
    else:
        op.execute(_POSTGRESQL_GUARD)
        op.execute(_POSTGRESQL_TRIGGER)


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("group_name", sa.String(length=128), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=True),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("births", sa.Text(), nullable=False),
        sa.Column("past_boots", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("info", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("config", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("site", "node"),
    )
    op.create_index(op.f("ix_nodes_changed_ms"), "nodes", ["changed_ms"], unique=False)
    op.create_table(
        "labels",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(["site", "node"], ["nodes.site", "nodes.node"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site", "node", "name"),
    )
    op.create_index("ix_labels_name_value", "labels", ["name", "value"], unique=False)
    op.create_table(
        "telemetry_latest",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("topic_group", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site", "node"], ["nodes.site", "nodes.node"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site", "node", "topic_group"),
    )
    op.create_table(
        "alarms",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site", "node"], ["nodes.site", "nodes.node"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site", "node", "code"),
    )


def _rollouts() -> None:
    op.create_table(
        "node_desired",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("sent_generation", sa.BigInteger(), nullable=False),
        sa.Column("rollout_id", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("set_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "node"),
    )
    op.create_index("ix_node_desired_unsent", "node_desired", ["sent_generation", "generation"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id"),
    )
    op.create_index(op.f("ix_rollouts_state"), "rollouts", ["state"], unique=False)
    op.create_table(
        "rollout_nodes",
        sa.Column("rollout_id", sa.String(length=128), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rollout_id", "site", "node"),
    )
    op.create_index("ix_rollout_nodes_node", "rollout_nodes", ["site", "node"], unique=False)
    op.create_index("ix_rollout_nodes_state", "rollout_nodes", ["rollout_id", "state"], unique=False)


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(length=300), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=128), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index(op.f("ix_events_at_ms"), "events", ["at_ms"], unique=False)
    op.create_table(
        "controller_lock",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("row", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("result_id", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("line", sa.String(length=200), nullable=True),
        sa.Column("camera", sa.String(length=128), nullable=False),
        sa.Column("part_id", sa.String(length=128), nullable=True),
        sa.Column("lot_id", sa.String(length=128), nullable=True),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=260), nullable=False),
        sa.Column("defect_count", sa.Integer(), nullable=False),
        sa.Column("max_score", sa.Float(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("row"),
        sa.UniqueConstraint("result_id"),
    )
    op.create_index("ix_results_camera", "results", ["site", "node", "camera", "created_ms"], unique=False)
    op.create_index(op.f("ix_results_created_ms"), "results", ["created_ms"], unique=False)
    op.create_index("ix_results_line", "results", ["line", "created_ms"], unique=False)
    op.create_index(op.f("ix_results_lot_id"), "results", ["lot_id"], unique=False)
    op.create_index(op.f("ix_results_part_id"), "results", ["part_id"], unique=False)
    op.create_table(
        "result_classes",
        sa.Column("result_id", sa.String(length=128), nullable=False),
        sa.Column("class_name", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("result_id", "class_name"),
    )
    op.create_index("ix_result_classes_name", "result_classes", ["class_name", "created_ms"], unique=False)


def _gaps() -> None:
    op.create_table(
        "result_streams",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("boot_id", sa.String(length=128), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.Column("has_gaps", sa.Integer(), nullable=False),
        sa.Column("latest_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "node", "boot_id"),
    )
    op.create_index(op.f("ix_result_streams_latest_ms"), "result_streams", ["latest_ms"], unique=False)
    op.create_table(
        "result_gaps",
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=128), nullable=False),
        sa.Column("boot_id", sa.String(length=128), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=True),
        sa.Column("times_asked", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("site", "node", "boot_id", "first"),
    )
    op.create_index(op.f("ix_result_gaps_found_ms"), "result_gaps", ["found_ms"], unique=False)


def _access() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("is_active", sa.Integer(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_name"], ["users.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_id"),
        sa.UniqueConstraint("digest"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("before", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_audit_at_ms"), "audit", ["at_ms"], unique=False)
