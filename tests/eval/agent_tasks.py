"""The Hugging Face agent benchmark's folder with tools, tasks and templates of our own: what its tests go through, in
fewer tasks. A list of names as `inputs` means what it means there: the input `x` holds the text `<<x>>`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def tool(name: str, args: str, result: str, looks_at: str = "", needs: str = "") -> Row:
    error = f"`{looks_at}` ({{{looks_at}}}) is of another kind."
    check = {"arg": looks_at, "must_contain": needs, "error": error} if looks_at else None
    described = f"A tool that is called with {args}."
    named = args.split(", ")
    return {"name": name, "description": described, "args": named, "defaults": {}, "mock_result": result,
            "mock_check": check}  # fmt: skip


TOOLS = [
    tool("text_classifier", "text, labels", "The best of {labels} for {text}."),
    tool("translator", "text, src_lang, tgt_lang", "In {tgt_lang} for {src_lang}: {text}."),
    tool("text_reader", "text", "The sound of {text}."),
    tool("summarizer", "text", "In short: {text}."),
    tool("image_generator", "prompt", "An image of {prompt}."),
    tool("image_captioner", "image", "What is on {image}.", "image", "image"),
    tool("image_transformer", "image, prompt", "The image {image} as {prompt}.", "image", "image"),
    tool("image_qa", "image, question", "By {image}, {question} is so.", "image", "image"),
]
Solution = tuple[str, str, str]  # the code, the tools in it, what comes out


def task(wordings: Sequence[str], inputs: str, *solutions: Solution) -> Row:
    code, tools, results = zip(*solutions, strict=True)
    return {
        "tasks": list(wordings),
        "inputs": {name: f"<<{name}>>" for name in inputs.split()},
        "reference_code": list(code),
        "expected": list(results),
        "expected_tools": [names.split() for names in tools],
        "alternatives": len(code) > 1,
    }


LABELS = "labels=['positive', 'negative']"
ENGLISH = "translator(text, src_lang='Spanish', tgt_lang='English')"
FRIENDLY = "The best of ['positive', 'negative'] for In English for Spanish: <<text>>.."
SEEN, ASKED = "What is on <<image>>.", "By <<image>>, What is in the image? is so."
QUESTION = "image_qa(image, question='What is in the image?')"
RUN = [
    task(
        ["Is the Spanish `text` kind?", "Is `text`, which is Spanish, kind?", "Read the Spanish `text`: is it kind?"],
        "text",
        (f"text_classifier({ENGLISH}, {LABELS})", "text_classifier translator", FRIENDLY),
    ),
    task(
        ["Say what `image` shows.", "Tell me, aloud, about `image`.", "Look at `image` and speak about it."],
        "image",
        ("text_reader(image_captioner(image))", "text_reader image_captioner", f"The sound of {SEEN}."),
        (f"text_reader({QUESTION})", "text_reader image_qa", f"The sound of {ASKED}."),
    ),
    task(
        ["Draw `text_input` and make it `prompt`."],
        "text_input prompt",
        (
            "image_transformer(image_generator(text_input), prompt)",
            "image_generator image_transformer",
            "The image An image of <<text_input>>. as <<prompt>>.",
        ),
    ),
]
CHAT = [
    [
        task(
            ["Put the Spanish `text` into English.", "Translate `text`; it is Spanish."],
            "text",
            (f"translated_text = {ENGLISH}", "translator", "In English for Spanish: <<text>>."),
        ),
        task(
            ["Is it kind?", "Now say whether it is kind."],
            "",
            (f"text_classifier(translated_text, {LABELS})", "text_classifier", FRIENDLY),
        ),
    ],
    [
        task(
            ["What is on `image`?", "Look at `image`.", "Tell me about `image`."],
            "image",
            ("seen = image_captioner(image)", "image_captioner", SEEN),
            (f"seen = {QUESTION}", "image_qa", ASKED),
        ),
        task(
            ["Aloud, please.", "Say it.", "Read that to me."],
            "",
            ("text_reader(seen)", "text_reader", f"The sound of {SEEN}."),
            ("text_reader(seen)", "text_reader", f"The sound of {ASKED}."),
        ),
    ],
]
TEMPLATES = {
    "run_prompt_template.txt": 'Tools:\n<<all_tools>>\n\nTask: "<<prompt>>"\n\nI will use the following',
    "chat_prompt_template.txt": "Tools:\n<<all_tools>>\n\n=====\n",
    "chat_message_prompt.txt": "\nHuman: <<task>>\n\nAssistant: ",
}


def write(folder: Path) -> None:
    chat = [{"dialogues": len(steps[0]["tasks"]), "steps": steps} for steps in CHAT]
    content = {"tools": TOOLS, "run": RUN, "chat": chat}
    (folder / "tasks.json").write_text(json.dumps(content), encoding="utf-8")
    for name, text in TEMPLATES.items():
        (folder / name).write_text(text, encoding="utf-8")
