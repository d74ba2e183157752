"""Jobs: what was asked, of whom, and what each board has said of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from fleet.adapters.db.database import Database, ms, utc
from fleet.adapters.db.tables import JobNodeRow, JobRow
from fleet.core.roster import NodeId
from fleet.errors import NotFound
from fleet.ports import StoredJob
from schemas.job import JobExecution, JobRequest

_MOST_VERSION = 2**62


class DbJobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, request: JobRequest, nodes: Sequence[NodeId], at: datetime, by: str) -> None:
        job = {
            "job_id": request.job_id,
            "created_ms": ms(at),
            "created_by": by,
            "document": request.model_dump_json(by_alias=True),
        }
        asked = [
            {"job_id": request.job_id, "site": node.site, "node": node.node, "version_number": 0, "document": None}
            for node in sorted(set(nodes))
        ]
        with self._database.write() as connection:
            connection.execute(insert(JobRow), job)
            if asked:
                connection.execute(insert(JobNodeRow), asked)

    def heard(self, executions: Sequence[tuple[NodeId, JobExecution]]) -> None:
        newest: dict[tuple[str, NodeId], JobExecution] = {}
        for node, said in executions:
            known = newest.get((said.job_id, node))
            if known is None or said.version_number > known.version_number:
                newest[said.job_id, node] = said
        if not newest:
            return
        with self._database.write() as connection:
            for (job_id, node), said in sorted(newest.items(), key=lambda item: item[0]):
                version = min(said.version_number, _MOST_VERSION)
                connection.execute(
                    update(JobNodeRow)
                    .where(
                        JobNodeRow.job_id == job_id,
                        JobNodeRow.site == node.site,
                        JobNodeRow.node == node.node,
                        JobNodeRow.version_number < version,
                    )
                    .values(version_number=version, document=said.model_dump_json(by_alias=True))
                )

    def job(self, job_id: str) -> StoredJob:
        with self._database.read() as connection:
            rows = connection.execute(select(*JobRow.__table__.columns).where(JobRow.job_id == job_id)).all()
            found = _stored(connection, rows)
        if not found:
            raise NotFound(f"there is no job {job_id!r}")
        return found[0]

    def jobs(self, limit: int = 100) -> list[StoredJob]:
        wanted = select(*JobRow.__table__.columns).order_by(JobRow.created_ms.desc(), JobRow.job_id).limit(limit)
        with self._database.read() as connection:
            return _stored(connection, connection.execute(wanted).all())


def _stored(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[StoredJob]:
    executions: dict[str, dict[NodeId, JobExecution | None]] = defaultdict(dict)
    wanted = select(JobNodeRow.job_id, JobNodeRow.site, JobNodeRow.node, JobNodeRow.document)
    for row in connection.execute(
        wanted.where(JobNodeRow.job_id.in_([row.job_id for row in rows])).order_by(JobNodeRow.site, JobNodeRow.node)
    ):
        said = None if row.document is None else JobExecution.model_validate_json(row.document)
        executions[row.job_id][NodeId(row.site, row.node)] = said
    return [
        StoredJob(
            JobRequest.model_validate_json(row.document), utc(row.created_ms), row.created_by, executions[row.job_id]
        )
        for row in rows
    ]
