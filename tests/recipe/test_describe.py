"""What `kft schema` prints, the schema for editors, and the reference page."""

from __future__ import annotations

import json
import re

from kft.recipe.describe import schema_json, schema_markdown, schema_text
from kft.recipe.keys import keys, section_names
from kft.recipe.schema import Recipe


def test_the_text_fits_a_terminal_and_has_every_key() -> None:
    text = schema_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in lines)
    names = [line.strip() for line in lines if re.fullmatch(r" {0,2}\w+", line)]
    assert names == [key.name for key in keys().values()]
    for name in section_names():
        assert f"\n{name}: " in text


def test_the_text_of_a_key() -> None:
    assert """
adapter: What is trained: LoRA, QLoRA or all weights. Keys are those of
  `peft.LoraConfig`.

  method
      one of `lora`, `qlora`, `full`; default `lora`
      `lora`; `qlora` (LoRA on a base in 4 bit: sets `model.quantization: nf4`
      unless said otherwise); `full` (every weight, no adapter).

  r
      a whole number, at least 1; default `8`
      Rank of the update matrices.
""" in schema_text()
    assert "  name_or_path\n      text, not empty; required\n" in schema_text()
    assert "      a number, above 0; default `0.0002`\n" in schema_text()


def test_the_json_schema_is_one_and_names_every_key() -> None:
    schema = json.loads(json.dumps(schema_json()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "kft recipe"
    assert schema["required"] == ["model", "data", "output_dir"]
    assert list(schema["properties"]) == list(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    for section in schema["$defs"].values():
        assert section["additionalProperties"] is False
        assert all("description" in key for key in section["properties"].values())


def test_the_page_has_one_table_for_each_section() -> None:
    page = schema_markdown()
    assert page.startswith("# The recipe\n")
    assert page.endswith("|\n")
    headings = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert headings == ["Top level", *(f"`{name}`" for name in section_names())]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(keys())
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert (
        "| `seed` | a whole number, at least 0 | `42` | Seed of everything that is random. |"
        in rows
    )
