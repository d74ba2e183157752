"""What is built from what: the ground that all stand on, then the models' side, then control and what it leads."""

from agent.wiring.ground import Ground
from agent.wiring.lead import Lead
from agent.wiring.models import Models

__all__ = ["Ground", "Lead", "Models"]
