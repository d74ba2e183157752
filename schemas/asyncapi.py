"""The AsyncAPI 3 document, as plain values. `make gen` writes it."""

import re
from typing import Any

from schemas.catalogue import DOCUMENTS, MESSAGES, Entry
from schemas.codes import FailureCode
from schemas.topics import ROOT

_PARAMETERS = {
    "site": "The site of ISA-95 where the board stands.",
    "node": "The board; equals its client id and its certificate's common name.",
    "jobId": "Chosen by whoever asks for the job.",
    "camera": "The camera's id in the board's settings.",
    "code": "A failure code.",
}

_SIGNED = {
    "name": "signed",
    "summary": "The message of this channel with the controller's signature. A board whose info has the capability "
    "`signed` takes no other.",
    "contentType": "application/json",
    "payload": {
        "schemaFormat": "application/schema+json;version=draft-07",
        "schema": {"$ref": "json/signed.json"},
    },
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema 2020-12 by the name of the message or document."""
    models = {entry.name: entry.model for entry in MESSAGES} | DOCUMENTS
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
        for name, model in models.items()
    }


def _channel(entry: Entry) -> dict[str, Any]:
    message = {entry.name: {"$ref": f"#/components/messages/{entry.name}"}}
    if entry.direction == "board receives":
        message["signed"] = {"$ref": "#/components/messages/signed"}
    if not entry.address:
        return {"address": None, "description": "The response topic of the command.", "messages": message}
    address = f"{ROOT}/{{site}}/{{node}}/{entry.address}"
    parameters: dict[str, Any] = {name: {"description": _PARAMETERS[name]} for name in re.findall(r"{(\w+)}", address)}
    if "code" in parameters:
        parameters["code"]["enum"] = [code.value for code in FailureCode]
    return {"address": address, "description": entry.summary, "parameters": parameters, "messages": message}


def _operation(entry: Entry) -> dict[str, Any]:
    qos, retain = entry.delivery.qos, entry.delivery.retain
    operation: dict[str, Any] = {
        "action": "send" if entry.direction == "board sends" else "receive",
        "channel": {"$ref": f"#/channels/{entry.name}"},
        "summary": entry.summary,
        "description": f"QoS {qos}, {'retained' if retain else 'not retained'}, expires: {entry.delivery.expiry}.",
        "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}},
    }
    if entry.name.startswith("cmd-"):
        operation["reply"] = {"channel": {"$ref": "#/channels/reply"}}
    return operation


def document(version: str) -> dict[str, Any]:
    """The whole contract of one board, from the board's side; `version` is that of the package."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "rkfleet",
            "version": version,
            "description": "What a board of rkfleet sends and receives over MQTT 5. Payloads are UTF-8 JSON, names in "
            "camelCase, times in UTC, durations in ms. Readers ignore fields that they do not know.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {entry.name: _channel(entry) for entry in MESSAGES},
        "operations": {entry.name: _operation(entry) for entry in MESSAGES},
        "components": {
            "messages": {
                entry.name: {
                    "name": entry.name,
                    "summary": entry.summary,
                    "contentType": "application/json",
                    "payload": {
                        "schemaFormat": "application/schema+json;version=draft-07",
                        "schema": {"$ref": f"json/{entry.name}.json"},
                    },
                }
                for entry in MESSAGES
            }
            | {"signed": _SIGNED}
        },
    }
