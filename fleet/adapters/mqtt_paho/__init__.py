"""The server's link to the broker: MQTT 5 with paho-mqtt 2.x."""

from fleet.adapters.mqtt_paho.inbox import Inbox
from fleet.adapters.mqtt_paho.link import PahoLink
from fleet.adapters.mqtt_paho.options import BatchOptions, LinkOptions, Tls
from fleet.adapters.mqtt_paho.post import PahoPost
from fleet.adapters.mqtt_paho.reader import PahoReader

__all__ = ["BatchOptions", "Inbox", "LinkOptions", "PahoLink", "PahoPost", "PahoReader", "Tls"]
