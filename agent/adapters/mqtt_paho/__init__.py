"""The link to the broker: MQTT 5 with paho-mqtt 2.x."""

from agent.adapters.mqtt_paho.link import PahoLink
from agent.adapters.mqtt_paho.options import LinkOptions, Tls

__all__ = ["LinkOptions", "PahoLink", "Tls"]
