"""The Hugging Face agent benchmark: marks as its rules say, on its own tasks and replies written here."""

import json
import subprocess
import sys
from pathlib import Path

from qwen_eval.benchmarks.hf_agent.interpreter import Interpreter
from qwen_eval.benchmarks.hf_agent.scoring import Marks, Program, read_protocol, read_robust
from qwen_eval.benchmarks.hf_agent.tasks import TEMPLATES, Step, Tasks, Tool, read_tasks
from qwen_eval.reporting.samples import unpacked
from tests.eval import agent_tasks

import pytest

FIGURES = ("tool_selection", "tool_used", "code")


@pytest.fixture(scope="module")
def folder(data_of) -> Path:
    """The published tasks, or where they are not here, ours of the same kinds."""
    return data_of("hf_agent")


@pytest.fixture(params=["run", "chat"])
def benchmark(request, folder) -> Tasks:
    return read_tasks(str(folder), request.param)


TOOLS = [
    Tool("summarizer", "summarizes an English text", ("text",), {}, "This is a summary of {text}.", None),
    Tool(
        "image_captioner",
        "describes an image",
        ("image",),
        {},
        "This is a description of {image}.",
        {"arg": "image", "must_contain": "image", "error": "`image` ({image}) is not an image."},
    ),
]


@pytest.fixture(scope="module")
def interpreter():
    with Interpreter(TOOLS, seconds=1) as interpreter:
        yield interpreter


def steps_of(benchmark: Tasks) -> list[Step]:
    return [step for dialogue in benchmark.dialogues for step in dialogue]


def reply(mode: str, tools, code: str) -> str:
    named = " and ".join(f"`{tool}`" for tool in sorted(tools))
    block = f"```py\n{code}\n```"
    return f"tools: {named}.\n\nAnswer:\n{block}" if mode == "run" else f"I will use {named}.\n\n{block}"


def references(benchmark: Tasks, choice: int) -> list[str]:
    """A reply a step; where a task has several references, the one of this number."""
    found = []
    for step in steps_of(benchmark):
        number = min(choice, len(step.code) - 1)
        found.append(reply(benchmark.mode, step.tools[number], step.code[number]))
    return found


@pytest.fixture
def scored(script, folder, tmp_path):
    """scored("run", replies) gives the figures and the lines of samples.jsonl in the order of the steps."""

    def run(mode: str, replies: list[str], *flags: object) -> tuple[dict[str, float], list[dict]]:
        lines = [{"id": f"{mode}/{number}", "response": text} for number, text in enumerate(replies)]
        path = tmp_path / "replies.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        out = tmp_path / "out"
        ended = script("plugin", "--hf-agent", mode, "-d", folder, "--rescore", path, "-o", out, *flags)
        assert ended.status == 0, ended.err
        content = json.loads((out / "results.json").read_text(encoding="utf-8"))
        samples = [
            unpacked(json.loads(line)) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        samples.sort(key=lambda sample: int(sample["id"].split("/")[1]))  # a dialogue's second step is written later
        return {name: score["value"] for name, score in content["scores"].items()}, samples

    return run


def marks(sample: dict, kind: str = "") -> Marks:
    return Marks(*(sample[name + kind] for name in FIGURES))


def test_the_benchmark_has_its_published_size(shared):
    run, chat = (read_tasks(str(shared / "data/hf_agent"), mode) for mode in ("run", "chat"))
    assert (len(steps_of(run)), len(chat.dialogues), len(steps_of(chat))) == (27, 24, 47)
    assert len(run.tools) == 14


@pytest.mark.parametrize("choice", [0, 1])
def test_reference_solutions_have_full_marks(scored, benchmark, choice):
    figures, samples = scored(benchmark.mode, references(benchmark, choice))
    assert figures == {f"{name}{kind}": 100.0 for kind in ("", "_robust") for name in FIGURES}
    assert all(sample["correct"] is True for sample in samples)


def test_empty_replies_have_none(scored, benchmark):
    figures, samples = scored(benchmark.mode, [""] * len(steps_of(benchmark)))
    assert set(figures.values()) == {0.0}
    assert not any(sample["correct"] for sample in samples)


def test_marks_in_between_are_those_of_the_rules(scored, folder):
    """The first seven run tasks: three of sentiment (2 tools), three of describing aloud (2 tools, two solutions)."""
    benchmark = read_tasks(str(folder), "run")
    both = ["text_classifier", "translator"]
    aloud = ["text_reader", "image_qa"]
    right = benchmark.dialogues[0][0].code[0]
    replies = [
        reply("run", both, right.replace("Spanish", "French")),  # right tools, a wrong argument
        reply("run", both[:1], "text_classifier(text, labels=['positive', 'negative'])"),  # one tool missing
        reply("run", ["summarizer"], "summarizer(text)"),  # two missing, one too many
        reply("run", aloud, "text_reader(image_qa(image, question='What is it?'))"),  # counts as the first solution's
        reply("run", aloud, "text_reader(image_qa(image, question='What is in the image?'))"),  # the second solution
        reply("run", ["text_reader", "image_captioner"], "{'sound': text_reader(image_captioner(image))}"),
        reply("run", ["image_generator", "image_transformer"], "import os\nimage_generator(text_input)"),
    ]
    figures, samples = scored("run", replies)
    assert [marks(sample) for sample in samples] == [
        (1.0, 1.0, 0.3),
        (0.75, 0.75, 0.3),
        (0.25, 0.25, 0.3),
        (0.5, 0.5, 0.3),
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 0.75),
        (1.0, 0.75, 0.3),
    ]
    assert figures["code"] == pytest.approx(100 * (5 * 0.3 + 1 + 0.75) / 7)
    assert [sample["correct"] for sample in samples] == [False] * 4 + [True, False, False]


def test_variables_live_on_through_a_dialogue_and_no_further(scored, folder):
    replies = references(read_tasks(str(folder), "chat"), 0)
    # dialogue 0: the second step needs the variable of the first; dialogue 1 may not see dialogue 0's
    replies[1] = reply("chat", ["text_classifier"], "text_classifier(translated_text, labels=['positive', 'negative'])")
    replies[2] = reply("chat", ["translator"], "x = 1")
    replies[3] = reply("chat", ["text_classifier"], "text_classifier(translated_text, labels=['positive', 'negative'])")
    _, samples = scored("chat", replies)
    assert [marks(samples[number]) for number in range(4)] == [(1, 1, 1), (1, 1, 1), (1, 0.75, 0.3), (1, 1, 0.3)]


def test_a_second_solution_is_followed_through_a_dialogue(scored, folder):
    """Step 5 reads out what step 4 found, by either of the two tools."""
    benchmark = read_tasks(str(folder), "chat")
    steps = steps_of(benchmark)
    replies = references(benchmark, 0)
    assert len(steps[4].code) == len(steps[5].code) == 2
    replies[4] = reply("chat", ["image_qa"], "seen = image_qa(image, question='What is in the image?')")
    replies[5] = reply("chat", ["text_reader"], "text_reader(seen)")
    figures, _ = scored("chat", replies)
    assert figures["code"] == 100.0


@pytest.mark.parametrize(
    ("mode", "text", "protocol", "robust"),
    [
        ("run", "tool: `a`.\n\nAnswer:\n```py\na(x)\n```", "a(x)", "a(x)"),
        ("run", "tool: `a`.\n\nAnswer:\na(x)", "a(x)", "a(x)"),
        ("run", "tool: `a`.\n\n```py\na(x)\n```", None, "a(x)"),
        ("run", "tool: `a`.\n\nAnswer:\n```py\na(x)\n```\nAnswer: done", None, "a(x)"),
        ("run", "tool: `a`.\n\nAnswer:\n```py\na(x)\n```\nIt is done.", "a(x)\n```\nIt is done.", "a(x)"),
        ("run", "I cannot do that.", None, None),
        ("chat", "I use `a`.\n\n```py\na(x)\n```\nThen\n```py\nb(x)\n```", "a(x)", "a(x)"),
        ("chat", "I use `a`.\n\n```py\na(x)", None, "a(x)"),
        ("chat", "I use `a`.\n\n~~~ python\na(x)\n~~~\n", None, "a(x)"),
        ("chat", "I use `a`: ```py\na(x)```\nDone.", None, "a(x)"),
        ("run", "tool: `a`.\r\n\r\nAnswer:\r\n```py\r\na(x)\r\n```", "```py\r\na(x)\r", "a(x)"),
        ("chat", "I use `a`.\nAnswer: a(x)", None, None),
    ],
)
def test_both_readings_of_a_reply(mode, text, protocol, robust):
    def code(program: Program | None) -> str | None:
        return program.code if program else None

    assert (code(read_protocol(text, mode)), code(read_robust(text, mode))) == (protocol, robust)


def test_an_unreadable_reply_scores_nothing_and_is_counted(scored):
    figures, samples = scored("run", ["tools: `text_classifier`.\n\n```py\ntext_classifier(translator(text))\n```"])
    assert marks(samples[0]) == (0, 0, 0) and marks(samples[0], "_robust") == (0.75, 1.0, 0.3)
    assert figures["code"] == 0.0


def test_a_reply_ends_at_the_stop_strings(scored, folder):
    benchmark = read_tasks(str(folder), "run")
    first = references(benchmark, 0)[0]
    _, samples = scored("run", [first + '\n\nTask: "Caption it."\n\nAnswer:\n```py\nx\n```'])
    assert samples[0]["response"] == first + "\n\n" and marks(samples[0]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("print('x')\ny = summarizer(text)\nprint(f'{y}')", "This is a summary of T."),  # what it prints is no value
        ("summarizer(text)\nundefined(text)", "This is a summary of T."),  # ends at what is not known
        ("summarizer(text)\nimage_captioner('a cat')", None),  # ends in a tool's own error: no result
        ("summarizer(texts)", "This is a summary of T."),  # the nearest name
        ("summarizer(text", None),
        ("if text == 'T':\n    x = summarizer(text)\nelse:\n    x = 1", "This is a summary of T."),
        ("for i in range(3):\n    x = summarizer(i)", "This is a summary of 2."),
        ("f'{text:>9}{text!r}'", "TT"),
        ("[text, 1, None]", ["T", 1, None]),
        ("summarizer", {"no plain data": "function"}),
        # no way to anything else
        ("open('/etc/passwd')", None),
        ("import os", None),
        ("text.__class__", None),
        ("str.__subclasses__()", None),
        ("[x for x in range(3)]", None),
        ("lambda: 1", None),
        ("'a' * 10", None),
        ("while True:\n    pass", None),
        ("def f():\n    return 1", None),
    ],
)
def test_the_language_is_the_benchmarks_own(interpreter, code, result):
    assert interpreter.run([({"text": "T"}, code)]).result == result


def test_what_takes_too_long_or_too_much_costs_itself_only(interpreter):
    fine = ([({"text": "T"}, "summarizer(text)")], ("This is a summary of T.", "done"))
    assert interpreter.run(fine[0]) == fine[1]
    endless = "for i in range(1000000000):\n    for j in range(1000000000):\n        x = i"
    assert interpreter.run([({}, endless)]) == (None, "over the limit")
    assert interpreter.run(fine[0]) == fine[1]
    assert interpreter.run([({"s": "x" * 1000}, "for i in range(40):\n    s = f'{s}{s}'")]).result is None
    assert interpreter.run(fine[0]) == fine[1]
    assert interpreter.run([({}, "x = " + "[" * 5000 + "]" * 5000)]).result is None
    assert interpreter.run(fine[0]) == fine[1]


def test_a_hanging_reply_costs_that_step_only(scored, folder, monkeypatch):
    monkeypatch.setattr(
        "qwen_eval.benchmarks.hf_agent.benchmark.Interpreter", lambda tools: Interpreter(tools, seconds=0.5)
    )
    replies = references(read_tasks(str(folder), "chat"), 0)
    replies[0] = reply("chat", ["translator"], "for i in range(1000000000):\n    x = translator(i, 'a', 'b')")
    _, samples = scored("chat", replies)
    assert samples[0]["ended"] == "over the limit" and marks(samples[0]) == (1, 1, 0.3)
    assert marks(samples[1]) == (1, 1, 0.3)  # its variable was never made
    assert all(marks(sample) == (1, 1, 1) for sample in samples[2:])


# --- prompts and runs of a model ---


def test_the_prompts_of_our_own_tasks(tmp_path):
    agent_tasks.write(tmp_path)
    tools = "\n".join(f"- {tool['name']}: {tool['description']}" for tool in agent_tasks.TOOLS)
    assert tools.startswith("- text_classifier: A tool that is called with text, labels.\n- translator: ")
    text = read_tasks(str(tmp_path), "run").prompt([], "Draw it.")
    assert text == f'Tools:\n{tools}\n\nTask: "Draw it."\n\nI will use the following'
    text = read_tasks(str(tmp_path), "chat").prompt([("Say it.", "I will.")], "Again.")
    asked = "\nHuman: Say it.\n\nAssistant: I will.\n\nHuman: Again.\n\nAssistant: "
    assert text == f"Tools:\n{tools}\n\n=====\n{asked}"


def test_the_published_run_prompt(shared):
    benchmark = read_tasks(str(shared / "data/hf_agent"), "run")
    text = benchmark.prompt([], "Summarize `text`.")
    assert text.startswith("I will ask you to perform a task, your job is to come up with a series of simple commands")
    assert "\n\nTools:\n- text_classifier: This is a tool that classifies an English text" in text
    assert text.endswith('Task: "Summarize `text`."\n\nI will use the following')


def test_the_chat_prompt_has_the_models_own_replies(folder):
    benchmark = read_tasks(str(folder), "chat")
    text = benchmark.prompt([("Say it.", "I will.\n\n```py\nx\n```")], "Again.")
    assert text.endswith("\nHuman: Say it.\n\nAssistant: I will.\n\n```py\nx\n```\n\nHuman: Again.\n\nAssistant: ")


def test_a_model_is_asked_turn_by_turn_and_the_run_goes_on(script, demo_checkpoint, folder, tmp_path):
    from qwen_eval.reporting.journal import prompt_sha256

    flags = ("-c", demo_checkpoint, "-d", folder, "--hf-agent", "chat", "--chat", "--max-new-tokens", 3)
    assert script("plugin", *flags, "-o", tmp_path / "out", "--limit", 2).status == 0
    first = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").splitlines()]
    ended = script("plugin", *flags, "-o", tmp_path / "out", "--limit", 3)
    assert ended.status == 0, ended.err
    lines = (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines[:2]] == first
    assert [json.loads(line)["id"] for line in lines] == ["chat/0", "chat/1", "chat/2"]

    benchmark = read_tasks(str(folder), "chat")
    tasks = [step.task for step in benchmark.dialogues[0]]
    text = benchmark.prompt([(tasks[0], first[0]["response"])], tasks[1])
    text = text.replace("Human:", "_HUMAN_:").replace("Assistant:", "_ASSISTANT_:")  # as published, to a chat model
    assert first[1]["prompt_sha256"] == prompt_sha256(text)
    content = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert content["manifest"]["settings"]["decoding"]["stop"] == ["Human:", "_HUMAN_:", "====="]
    assert content["scores"]["code"]["n"] == 3


def test_a_dialogue_ends_where_an_endpoint_gives_no_reply_and_is_asked_again(script, folder, tmp_path, monkeypatch):
    from qwen_eval.engines.base import NoReply, Reply
    from qwen_eval.engines.openai import OpenAIEngine

    refused, asked = {"value": True}, []

    def generate(self, requests):
        asked.append(len(requests))
        for index in range(len(requests)):
            bad = refused["value"] and len(asked) == 1 and index == 0
            yield index, NoReply("HTTP 400", "too long", True) if bad else Reply("I will not.", 3, "stop")

    monkeypatch.setattr(OpenAIEngine, "generate", generate)
    flags = ("-c", "m", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "-d", folder, "--hf-agent", "chat")
    ended = script("plugin", *flags, "-o", tmp_path / "out")
    assert ended.status == 2
    steps = [len(dialogue) for dialogue in read_tasks(str(folder), "chat").dialogues]
    said = f"gave no reply to {steps[0]} of {sum(steps)} items"
    assert said in ended.err.splitlines()[-1] and "an earlier step without a reply" in ended.err
    found = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert found["scores"]["code"]["n"] == sum(steps) - steps[0]
    refused["value"] = False
    asked.clear()
    assert script("plugin", *flags, "-o", tmp_path / "out").status == 0
    assert asked == [1] * steps[0]
    found = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert found["scores"]["code"]["n"] == sum(steps)


# --- wrong use ---


def fails(ended, *parts: str) -> None:
    assert ended.status == 2
    assert ended.err.count("\n") == 1 and all(part in ended.err for part in parts), ended.err


def test_unusable_data_is_one_line(script, folder, tmp_path):
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "chat/1", "response": ""}', encoding="utf-8")
    flags = ("plugin", "--rescore", replies, "-o", tmp_path / "out")
    fails(script(*flags, "-d", folder, "--hf-agent", "talk"), "invalid choice: 'talk'")
    fails(script(*flags, "--hf-agent", "run"), "needs -d", "tasks.json")
    fails(script(*flags, "-d", tmp_path / "none", "--hf-agent", "run"), "no such file or folder")
    fails(script(*flags, "-d", folder, "--hf-agent", "chat"), "chat/1 goes on from chat/0")
    fails(script(*flags, "-d", folder, "--hf-agent", "chat", "--sample", 3), "--limit N")

    broken = tmp_path / "data"
    broken.mkdir()
    fails(script(*flags, "-d", broken, "--hf-agent", "run"), "no 'tasks.json'")
    for content, told in (
        ("{", "not JSON"),
        ("[]", "not the benchmark's tasks"),
        ('{"tools": []}', "not the benchmark's tasks (KeyError: 'run')"),
        ('{"tools": [], "run": []}', "has no tools"),
    ):
        (broken / "tasks.json").write_text(content, encoding="utf-8")
        for name in TEMPLATES:
            (broken / name).write_text("<<task>>", encoding="utf-8")
        fails(script(*flags, "-d", broken, "--hf-agent", "run"), "tasks.json", told)
    (broken / TEMPLATES[0]).unlink()
    fails(script(*flags, "-d", broken / "tasks.json", "--hf-agent", "run"), f"no {TEMPLATES[0]}")


def test_the_interpreters_process_can_open_no_file():
    program = "from qwen_eval.sandbox import isolate\nprint(*isolate(2 << 30), flush=True)\nopen('/etc/hostname')"
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    if "landlock" not in ended.stdout:
        pytest.skip("this kernel has no Landlock")
    assert ended.returncode == 1 and "PermissionError" in ended.stderr
