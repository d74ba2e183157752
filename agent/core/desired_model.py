"""Reading `desired/model`: hostile bytes in, the message or a typed refusal out."""

from pydantic import ValidationError

from agent.core.command import Refusal, malformed
from agent.core.outgoing import Incoming
from schemas.codes import FailureCode
from schemas.state import DesiredModel

MAX_BYTES = 65_536


def read(message: Incoming) -> DesiredModel | Refusal:
    """Never raises, whatever the payload is."""
    size = len(message.payload)
    if size > MAX_BYTES:
        return Refusal(FailureCode.MESSAGE_TOO_LARGE, f"{size} bytes; desired/model has at most {MAX_BYTES}")
    try:
        return DesiredModel.model_validate_json(message.payload)
    except ValidationError as error:
        return malformed(error, "desired/model")
