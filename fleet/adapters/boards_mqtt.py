"""Commands and jobs for boards over MQTT, signed by the controller."""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from fleet.core.roster import NodeId
from fleet.errors import ErrorCode, Permanent, Retryable
from fleet.mail import Post, Sending
from schemas.command import COMMANDS, CommandName, Reply
from schemas.job import JobRequest
from schemas.topics import Topics

COMMAND_LIFE = timedelta(minutes=5)
LEAST_EXPIRY_S, MOST_EXPIRY_S = 30, 300
OPEN_JOB_LIFE = timedelta(days=7)
"""Of a request without a deadline."""
_TAKEN_WITHIN_S = 10.0
Seal = Callable[[NodeId, str, bytes, timedelta], bytes]


class MqttBoards:
    """Fits the port Boards. `seal` signs (node, topic, payload, life) where the node wants it."""

    def __init__(self, post: Post, seal: Seal, now: Callable[[], datetime]) -> None:
        self._post = post
        self._seal = seal
        self._now = now

    def command(self, node: NodeId, name: CommandName, fields: Mapping[str, Any], timeout_s: float) -> Reply | None:
        try:
            message = COMMANDS[name].model_validate({"commandId": uuid.uuid4().hex, **fields})
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise Permanent(ErrorCode.INVALID, f"{name}: {place}: {problem['msg']}") from error
        topic = Topics(node.site, node.node).command(name)
        expiry_s = min(MOST_EXPIRY_S, max(LEAST_EXPIRY_S, round(timeout_s)))
        sealed = self._seal(node, topic, message.to_json(), COMMAND_LIFE)
        answer = self._post.request(Sending(topic, sealed, expiry_s=expiry_s), timeout_s)
        if answer is None:
            return None
        try:
            return Reply.model_validate_json(answer)
        except ValidationError:
            return None  # no reply of ours: as good as none

    def ask(self, node: NodeId, request: JobRequest) -> None:
        """Also Permanent(INVALID) for a deadline that has passed."""
        now = self._now()
        life = OPEN_JOB_LIFE if request.deadline is None else request.deadline - now
        if life <= timedelta(0):
            raise Permanent(ErrorCode.INVALID, f"the deadline of job {request.job_id} has passed")
        topic = Topics(node.site, node.node).job_request(request.job_id)
        sealed = self._seal(node, topic, request.to_json(), life)
        sending = Sending(topic, sealed, retain=True, expiry_s=min(2**32 - 2, max(1, round(life.total_seconds()))))
        [is_taken] = self._post.publish([sending], _TAKEN_WITHIN_S)
        if not is_taken:
            raise Retryable(ErrorCode.UNAVAILABLE, "the broker has not taken the job", delay_s=2.0)
