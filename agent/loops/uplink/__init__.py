"""The only publisher: drains the spool over the link, and sends state and replies ahead of it."""

from agent.loops.uplink.backlog import due_now
from agent.loops.uplink.loop import Uplink
from agent.loops.uplink.settings import UplinkHooks, UplinkSettings

__all__ = ["Uplink", "UplinkHooks", "UplinkSettings", "due_now"]
