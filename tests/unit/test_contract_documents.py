"""The published contract, read by validators that know nothing of pydantic."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import ValidationError

from schemas.asyncapi import document, json_schemas
from schemas.catalogue import MESSAGES
from schemas.examples import EXAMPLES
from tools import generate

SCHEMAS = Path(generate.FOLDER)
NAMES = [entry.name for entry in MESSAGES]


def schema(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((SCHEMAS / "json" / f"{name}.json").read_text())
    return loaded


def example(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((SCHEMAS / "examples" / f"{name}.json").read_text())
    return loaded


def test_generated_files_are_what_the_generator_writes() -> None:
    for path, text in generate.generated().items():
        assert path.read_text() == text, f"{path.name}: run `make gen`"


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_each_published_schema_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_each_message_has_an_example_that_an_independent_validator_takes(name: str) -> None:
    validator = Draft202012Validator(schema(name), format_checker=FormatChecker())
    assert list(validator.iter_errors(example(name))) == []


@pytest.mark.parametrize("entry", MESSAGES, ids=NAMES)
def test_an_example_survives_reading_and_writing(entry: object) -> None:
    name, model = entry.name, entry.model  # type: ignore[attr-defined]
    text = (SCHEMAS / "examples" / f"{name}.json").read_text()
    assert json.loads(model.model_validate_json(text).to_json()) == json.loads(text)


@pytest.mark.parametrize("name", NAMES)
def test_both_validators_miss_each_required_field(name: str) -> None:
    required = schema(name).get("required", [])
    assert isinstance(required, list)
    validator = Draft202012Validator(schema(name))
    model = type(EXAMPLES[name])
    for field in required:
        broken = {key: value for key, value in example(name).items() if key != field}
        assert not validator.is_valid(broken), field
        with pytest.raises(ValidationError):
            model.model_validate(broken)


def test_an_unknown_field_of_a_message_is_ignored_and_of_a_configuration_refused() -> None:
    assert type(EXAMPLES["result"]).model_validate(example("result") | {"newer": 1})
    with pytest.raises(ValidationError, match="newer"):
        type(EXAMPLES["desired-model"]).model_validate(example("desired-model") | {"newer": 1})


def test_the_asyncapi_document_is_whole() -> None:
    loaded = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert loaded == document(loaded["info"]["version"])
    assert loaded["asyncapi"] == "3.0.0"
    for name, operation in loaded["operations"].items():
        assert operation["channel"]["$ref"] == f"#/channels/{name}"
        assert name in loaded["channels"]
    for name, message in loaded["components"]["messages"].items():
        reference = message["payload"]["schema"]["$ref"]
        assert (SCHEMAS / reference).is_file(), name
    for channel in loaded["channels"].values():
        wanted = {part[1:-1] for part in (channel["address"] or "").split("/") if part.startswith("{")}
        assert wanted == set(channel.get("parameters", {}))
