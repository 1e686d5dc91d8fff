"""Real Korean files with a real, small Korean GPT."""

from __future__ import annotations

from pathlib import Path

import pytest

import kft

FILES = {
    "chatbot/ChatbotData.csv": ("`prompt_completion`", 11_823, []),
    "nsmc/ratings_test.txt": (
        "`classification`",
        50_000,
        ["data.labels=[부정, 긍정]", "data.on_too_long=drop"],
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if "nsmc" in name else []) for name in FILES],
)
def test_a_real_file_is_checked_as_it_is(name: str, real_data: Path, tmp_path: Path) -> None:
    layout, num_rows, overrides = FILES[name]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name_or_path: {real_data / 'checkpoints' / 'ko-gpt-mini'}}}\n"
        f"data: {{train: {real_data / 'data' / name}, max_length: 192}}\n"
        f"evaluate: {{max_rows: 100}}\noutput_dir: {tmp_path / 'run'}\n",
        encoding="utf-8",
    )
    check = kft.check(recipe, overrides, show_rows=1)
    assert check.sections["data"]["format"].startswith(layout)
    assert check.sections["data"]["rows_read"] == num_rows
    assert not check.has_errors
    assert "".join(text for text, is_target in check.shown[0].tokens if is_target).endswith("</s>")
    if name.startswith("nsmc"):  # three reviews are empty
        (dropped,) = [found for found in check.findings if "left out: empty" in found.what]
        assert dropped.count == 3


@pytest.mark.slow
def test_a_few_steps_on_real_rows_help(real_data: Path, tmp_path: Path) -> None:
    source = (real_data / "data" / "chatbot" / "ChatbotData.csv").read_text(encoding="utf-8")
    rows = tmp_path / "chat.csv"
    rows.write_text("\n".join(source.splitlines()[:201]) + "\n", encoding="cp949")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name_or_path: {real_data / 'checkpoints' / 'ko-gpt-mini'}}}\n"
        f"adapter: {{method: qlora}}\n"
        f"data: {{train: {rows}, template: koalpaca, max_length: 96}}\n"
        f"train: {{max_steps: 12, learning_rate: 2e-3}}\n"
        f"evaluate: {{generate: 1, max_new_tokens: 8}}\noutput_dir: {tmp_path / 'run'}\n",
        encoding="utf-8",
    )
    run = kft.finetune(recipe)
    assert run.result["intervals"]["eval_loss"]["high"] < 0
    verification = run.result["verification"]
    assert verification["passed"]
    assert verification["top1_agreement"] > 0.99
    assert isinstance(run.generate("배고파", max_new_tokens=4), str)
