"""Pictures of structure: who sees whom, the two halves of the Transformer, where LoRA attaches."""

from __future__ import annotations

from dev.figures.svg import Drawing

WORDS = ("영화", "가", "정말", "→", "재미", "있어요")
PROMPT = 4
CELL = 30

SEES = {
    "BERT: both ways": lambda query, key: max(query, key) < len(WORDS),
    "GPT: causal": lambda query, key: key <= query,
    "BERT as decoder: prefix": lambda query, key: key <= query or max(query, key) < PROMPT,
}
"""Name of a mask -> whether the token `query` sees the token `key`."""


def masks() -> str:
    """Three attention masks beside each other."""
    side = CELL * len(WORDS)
    drawing = Drawing(3 * side + 260, side + 110, "Attention masks of BERT, GPT and prefix mode")
    for number, (name, sees) in enumerate(SEES.items()):
        left, top = 70 + number * (side + 65), 64
        drawing.text(left + side / 2, 24, name, bold=True)
        for query, word in enumerate(WORDS):
            y = top + query * CELL
            drawing.text(left - 8, y + 20, word, size=12, anchor="end")
            drawing.text(left + query * CELL + CELL / 2, top - 8, word, size=10, ink="faint")
            for key in range(len(WORDS)):
                seen = sees(query, key)
                drawing.box(
                    left + key * CELL + 2,
                    y + 2,
                    CELL - 4,
                    CELL - 4,
                    ink="a" if seen else "grid",
                    fill="full" if seen else "none",
                )
        drawing.text(left + side / 2, top + side + 26, "row: who looks", size=11, ink="faint")
    return drawing.svg()


def _stack(drawing: Drawing, x: float, parts: list[tuple[str, str]], bottom: float) -> float:
    """Boxes on top of each other from below; returns the top."""
    y = bottom
    for words, ink in parts:
        y -= 44
        drawing.box(x - 20, y, 250, 32, ink=ink)
        drawing.text(x + 105, y + 21, words, size=12)
        drawing.arrow((x + 105, y + 44), (x + 105, y + 32), "faint")
    return y


def halves() -> str:
    """The encoder and the decoder, each as the family that kept it."""
    drawing = Drawing(760, 400, "The two halves of the Transformer: BERT and GPT")
    block = [
        ("attention", "a"),
        ("add, layer norm", "faint"),
        ("FFNN: D → 4D → GELU → D", "b"),
        ("add, layer norm", "faint"),
    ]
    encoder = [
        ("tokens + positions (+ segments)", "c"),
        *[("attention, both ways", "a"), *block[1:]],
        ("head: [MASK], class, number, tags", "d"),
    ]
    decoder = [
        ("tokens + positions", "c"),
        ("layer norm, attention to the left", "a"),
        ("add", "faint"),
        ("layer norm, FFNN: D → 4D → GELU → D", "b"),
        ("add", "faint"),
        ("head: the next token", "d"),
    ]
    for x, name, parts in ((60, "BERT: the encoder", encoder), (470, "GPT: the decoder", decoder)):
        drawing.text(x + 105, 34, name, bold=True, size=15)
        _stack(drawing, x, parts, 372)
        drawing.box(x - 30, 372 - 5 * 44 - 8, 270, 4 * 44 + 2, ink="faint", fill="none")
        drawing.text(x - 36, 372 - 3 * 44, "L ×", size=12, ink="faint", anchor="end")
    drawing.text(366, 150, "sees both sides:", size=12, ink="faint")
    drawing.text(366, 168, "reads", size=12)
    drawing.text(366, 220, "sees its left:", size=12, ink="faint")
    drawing.text(366, 238, "writes", size=12)
    return drawing.svg()


def lora() -> str:
    """A frozen linear layer with its two small matrices, and where a block has such layers."""
    drawing = Drawing(760, 330, "Where LoRA attaches in a block")
    drawing.text(180, 30, "one linear layer", bold=True)
    drawing.text(180, 300, "x   (B, T, D)", size=12)
    drawing.arrow((180, 284), (180, 262), "faint")
    drawing.box(60, 130, 130, 120, ink="faint")
    drawing.text(125, 182, "W   frozen", size=13)
    drawing.text(125, 204, "(4 bits with QLoRA)", size=11, ink="faint")
    drawing.box(220, 206, 110, 44, ink="b")
    drawing.text(275, 226, "A   (r, D)", size=12)
    drawing.text(275, 242, "starts random", size=10, ink="faint")
    drawing.box(220, 130, 110, 44, ink="a")
    drawing.text(275, 150, "B   (4D, r)", size=12)
    drawing.text(275, 166, "starts at 0", size=10, ink="faint")
    drawing.line([(125, 262), (275, 262)], ink="faint", thin=True)
    for x, bottom, top in ((125, 262, 250), (275, 262, 250), (275, 206, 174)):
        drawing.arrow((x, bottom), (x, top), "faint")
    drawing.line([(125, 130), (125, 104), (275, 104), (275, 130)], ink="faint", thin=True)
    drawing.arrow((200, 104), (200, 78), "faint")
    drawing.text(200, 66, "W x + (lora_alpha / r) · B A x", size=13)
    drawing.text(560, 30, "a block of GPT-2: four of them", bold=True)
    rows = [
        ("c_attn", "attention", "D → 3D"),
        ("attn.c_proj", "attention", "D → D"),
        ("c_fc", "FFNN", "D → 4D"),
        ("mlp.c_proj", "FFNN", "4D → D"),
    ]
    for number, (name, where, shape) in enumerate(rows):
        y = 252 - number * 58
        drawing.box(450, y, 150, 40, ink="faint")
        drawing.text(525, y + 18, name, size=12)
        drawing.text(525, y + 33, f"{where}, {shape}", size=10, ink="faint")
        drawing.box(620, y + 4, 14, 32, ink="b", fill="full")
        drawing.box(640, y + 4, 14, 32, ink="a", fill="full")
        drawing.text(664, y + 25, "A, B", size=11, anchor="start", ink="faint")
    return drawing.svg()
