"""The tables. Times are Unix milliseconds, documents are JSON text: the same in every database.

Documents are text and not a database's JSON type, since that type refuses what JSON allows (NUL) and changes bytes;
PostgreSQL reads them with `document::json`.
"""

from sqlalchemy import BigInteger, Float, ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Ms = BigInteger
RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER


class Base(DeclarativeBase):
    """All tables of the fleet."""


class NodeRow(Base):
    __tablename__ = "nodes"
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(128))
    last_seen_ms: Mapped[int | None] = mapped_column(Ms)
    changed_ms: Mapped[int] = mapped_column(Ms, index=True)
    births: Mapped[str] = mapped_column(Text)
    past_boots: Mapped[str] = mapped_column(Text)
    status: Mapped[str | None] = mapped_column(Text)
    info: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    config: Mapped[str | None] = mapped_column(Text)


def _of_node() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["site", "node"], ["nodes.site", "nodes.node"], ondelete="CASCADE")


class LabelRow(Base):
    __tablename__ = "labels"
    __table_args__ = (_of_node(), Index("ix_labels_name_value", "name", "value"))
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[str] = mapped_column(String(256))


class TelemetryRow(Base):
    __tablename__ = "telemetry_latest"
    __table_args__ = (_of_node(),)
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    topic_group: Mapped[str] = mapped_column(String(128), primary_key=True)
    document: Mapped[str] = mapped_column(Text)


class AlarmRow(Base):
    """Active ones."""

    __tablename__ = "alarms"
    __table_args__ = (_of_node(),)
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    code: Mapped[str] = mapped_column(String(128), primary_key=True)
    document: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """Of boards, and of the fleet itself, whose site and node are empty."""

    __tablename__ = "events"
    event_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    site: Mapped[str] = mapped_column(String(128))
    node: Mapped[str] = mapped_column(String(128))
    code: Mapped[str] = mapped_column(String(128))
    severity: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(128))
    text: Mapped[str] = mapped_column(Text)
    at_ms: Mapped[int] = mapped_column(Ms, index=True)


class DesiredRow(Base):
    """The newest order of a node, and the outbox: it is to be sent while `sent_generation` is lower."""

    __tablename__ = "node_desired"
    __table_args__ = (Index("ix_node_desired_unsent", "sent_generation", "generation"),)
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger)
    sent_generation: Mapped[int] = mapped_column(BigInteger)
    rollout_id: Mapped[str] = mapped_column(String(128))
    document: Mapped[str] = mapped_column(Text)
    set_ms: Mapped[int] = mapped_column(Ms)


class RolloutRow(Base):
    __tablename__ = "rollouts"
    rollout_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16), index=True)
    version: Mapped[int] = mapped_column(BigInteger)
    created_ms: Mapped[int] = mapped_column(Ms)
    created_by: Mapped[str] = mapped_column(String(128))
    document: Mapped[str] = mapped_column(Text)


class MemberRow(Base):
    __tablename__ = "rollout_nodes"
    __table_args__ = (
        ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], ondelete="CASCADE"),
        Index("ix_rollout_nodes_node", "site", "node"),
        Index("ix_rollout_nodes_state", "rollout_id", "state"),
    )
    rollout_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    document: Mapped[str] = mapped_column(Text)


class ResultRow(Base):
    __tablename__ = "results"
    __table_args__ = (
        Index("ix_results_line", "line", "created_ms"),
        Index("ix_results_camera", "site", "node", "camera", "created_ms"),
    )
    row: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=True)
    result_id: Mapped[str] = mapped_column(String(128), unique=True)
    created_ms: Mapped[int] = mapped_column(Ms, index=True)
    site: Mapped[str] = mapped_column(String(128))
    node: Mapped[str] = mapped_column(String(128))
    line: Mapped[str | None] = mapped_column(String(200))
    camera: Mapped[str] = mapped_column(String(128))
    part_id: Mapped[str | None] = mapped_column(String(128), index=True)
    lot_id: Mapped[str | None] = mapped_column(String(128), index=True)
    state: Mapped[int] = mapped_column(Integer)
    evaluation: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(260))
    defect_count: Mapped[int] = mapped_column(Integer)
    max_score: Mapped[float] = mapped_column(Float)
    document: Mapped[str] = mapped_column(Text)


class ResultClassRow(Base):
    """Which classes a result shows; the defects themselves are in its document."""

    __tablename__ = "result_classes"
    __table_args__ = (Index("ix_result_classes_name", "class_name", "created_ms"),)
    result_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    class_name: Mapped[str] = mapped_column(String(128), primary_key=True)
    created_ms: Mapped[int] = mapped_column(Ms)


class StreamRow(Base):
    """The results of one boot: the highest number that has come. What is missing below is in `result_gaps`."""

    __tablename__ = "result_streams"
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    boot_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    highest: Mapped[int] = mapped_column(BigInteger)
    has_gaps: Mapped[int] = mapped_column(Integer)
    latest_ms: Mapped[int] = mapped_column(Ms, index=True)


class GapRow(Base):
    __tablename__ = "result_gaps"
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    boot_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    found_ms: Mapped[int] = mapped_column(Ms, index=True)
    asked_ms: Mapped[int | None] = mapped_column(Ms)
    times_asked: Mapped[int] = mapped_column(Integer)


class AuditRow(Base):
    """Append-only: triggers refuse changes, and the chain shows them where somebody takes the triggers away."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at_ms: Mapped[int] = mapped_column(Ms, index=True)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    before: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))


class UserRow(Base):
    __tablename__ = "users"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[int] = mapped_column(Integer)
    password_hash: Mapped[str | None] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(Ms)


class TokenRow(Base):
    __tablename__ = "tokens"
    __table_args__ = (ForeignKeyConstraint(["user_name"], ["users.name"], ondelete="CASCADE"),)
    token_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    description: Mapped[str] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(Ms)
    expires_ms: Mapped[int | None] = mapped_column(Ms)
    revoked_ms: Mapped[int | None] = mapped_column(Ms)
    used_ms: Mapped[int | None] = mapped_column(Ms)


class LockRow(Base):
    __tablename__ = "controller_lock"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(BigInteger)
    until_ms: Mapped[int] = mapped_column(Ms)


class JobRow(Base):
    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    created_ms: Mapped[int] = mapped_column(Ms, index=True)
    created_by: Mapped[str] = mapped_column(String(128))
    document: Mapped[str] = mapped_column(Text)


class JobNodeRow(Base):
    """A board that was asked. `version_number` is 0, and there is no document, until it says something."""

    __tablename__ = "job_nodes"
    __table_args__ = (ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),)
    job_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    site: Mapped[str] = mapped_column(String(128), primary_key=True)
    node: Mapped[str] = mapped_column(String(128), primary_key=True)
    version_number: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str | None] = mapped_column(Text)
