"""Code interpreter: a scripted model (an endpoint that replays transcripts) over 30 items of known outcome."""

import base64
import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks.code_interpreter.rounds import MAX_OBSERVATION, cut, read_code
from qwen_eval.errors import UserError, run_script
from qwen_eval.judge import Judge
from qwen_eval.reporting.samples import unpacked
from qwen_eval.sandbox import Sandbox

import evaluate_code_interpreter
import pytest
from evaluate_code_interpreter import observed, prompt, read_items, read_protocol, shown

ITEMS = Path(__file__).parent / "code_interpreter_items"
SCRIPT = {row["id"]: row for row in json.loads((ITEMS / "replies.json").read_text(encoding="utf-8"))}


class Endpoint:
    """An OpenAI-compatible server of this process. `asked`: (id, round) of the model, and ids of the judge."""

    def __init__(self) -> None:
        self.by_prompt = {item.prompt + item.assistant_prefill: item for item in read_items(str(ITEMS), prompt)}
        self.asked: list[tuple[str, int]] = []
        self.judged: list[dict[str, Any]] = []
        self.fails_after: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = outer.answer(body)
                said = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}]}
                said["choices"][0]["message"]["content"] = reply  # type: ignore[index]
                data = json.dumps(said if status == 200 else {"error": {"message": reply}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> tuple[int, str]:
        if body["model"] == "eyes":
            return self.judge(body)
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            return 400, "the script says no"
        assert body["stop"] == ["Observation:"] and body["temperature"] == 0
        user, *rest = body["messages"]
        begun = rest[0]["content"] if rest else ""
        assert bool(rest) == body.get("continue_final_message", False)
        found = [item for text, item in self.by_prompt.items() if (user["content"] + begun).startswith(text)]
        item = found[0]
        turn = begun.removeprefix(item.assistant_prefill).count("\nObservation: ")
        self.asked.append((item.id, turn))
        return 200, SCRIPT[item.id]["rounds"][turn]

    def judge(self, body: dict[str, Any]) -> tuple[int, str]:
        """Sees a picture, and likes bars."""
        text, *pictures = body["messages"][0]["content"]
        assert all(
            base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"
            for part in pictures
        )
        self.judged.append({"text": text["text"], "pictures": len(pictures)})
        return 200, "Right." if "bar" in text["text"] or "histogram" in text["text"] else "wrong"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    one = Endpoint()
    yield one
    one.server.shutdown()


@pytest.fixture(scope="module", autouse=True)
def bubblewrap() -> None:
    try:
        Sandbox("bubblewrap", workers=1, without=("none",)).close()  # without the self-test, which is not quick
    except UserError as error:
        pytest.skip(str(error))


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [unpacked(json.loads(line)) for line in lines]
    assert len({row["id"] for row in rows}) == len(rows), "one line an item"
    return {row["id"]: row for row in rows}


def scores(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["scores"]


def refused(ended, *words: str) -> None:
    assert ended.status == 2
    last = ended.err.strip().splitlines()[-1]  # progress bars may stand before it
    assert last.startswith(("error: ", "evaluate_code_interpreter.py: error: ")) and "Traceback" not in ended.err
    assert all(word in last for word in words), ended.err
    assert "; --debug shows where" not in ended.err


@pytest.fixture(scope="module")
def run_of_all(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 30 items through the scripted endpoint, once."""
    folder = tmp_path_factory.mktemp("all")
    flags = ["--engine", "openai", "--base-url", endpoint.url, "-c", "scripted-chat", "-d", str(ITEMS)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["evaluate_code_interpreter.py", *flags, "-o", str(folder)])
        patch.setattr(evaluate_code_interpreter.CodeInterpreter, "items_at_a_time", 16)
        run_script(evaluate_code_interpreter.main)
    assert ended.value.code == 0
    return folder


# -- the 30 items ----------------------------------------------------------------------------------


def test_every_item_comes_out_as_constructed(run_of_all: Path) -> None:
    rows = rows_of(run_of_all)
    assert rows.keys() == SCRIPT.keys() and len(rows) == 30
    for name, row in rows.items():
        expected = dict(SCRIPT[name]["expected"])
        pictures = expected.pop("pictures", 0)
        found = {"correct": row["correct"], "correct_robust": row.get("correct_robust")}
        found |= {"executable": row["executable"], "executable_robust": row["executable_robust"]}
        assert {key: found[key] for key in expected} == expected, name
        assert isinstance(row["correct"], bool)
        assert sum(len(cell["pictures"]) for cell in row["cells"]) == pictures, name
    for item in read_items(
        str(ITEMS), prompt
    ):  # of several rounds the first prompt: `response` has what came behind it
        turn = f"\nassistant: {item.assistant_prefill}" if item.assistant_prefill else ""
        assert rows[item.id]["prompt"] == f"user: {item.prompt}{turn}"
        assert rows[item.id]["response"].startswith(item.assistant_prefill)


def test_the_figures_are_those_of_the_construction(run_of_all: Path) -> None:
    found = scores(run_of_all)
    percent = {name: (round(score["value"], 2) if score["n"] else None, score["n"]) for name, score in found.items()}
    assert percent == {
        "executable_math": (72.73, 11),  # 8 of 11; the GSM8K row has no tag and counts for the accuracy alone
        "executable_visualization": (70.0, 10),
        "executable_general": (50.0, 8),
        "acc_math": (58.33, 12),  # 7 of 12
        "acc_visualization_hard": (None, 0),
        "acc_visualization_easy": (None, 0),
        "executable_all": (65.52, 29),
        "executable_robust_all": (62.07, 29),
        "acc_math_robust": (75.0, 12),
    }
    results = json.loads((run_of_all / "results.json").read_text(encoding="utf-8"))
    notes = "\n".join(results["notes"])
    assert "no judge of pictures (--judge-url, --judge-model)" in notes
    assert "imported by code (the published run installed them): nonexistent_calendar" in notes
    assert results["sandbox"]["level"] == "bubblewrap" and "network" in results["sandbox"]["guards"]


def test_a_picture_was_really_drawn(run_of_all: Path) -> None:
    from PIL import Image

    bars = Image.open(run_of_all / "pictures/visualization-13-1.png").convert("RGB")
    assert bars.width > 400 and bars.height > 300
    colours = {colour: count for count, colour in bars.getcolors(1 << 24) or []}
    for blue_and_orange in ((76, 114, 176), (221, 132, 82)):
        assert colours[blue_and_orange] > 2000, "a bar for each region, in the colours of the theme"


def test_the_transcript_shows_code_observation_picture_and_answer(run_of_all: Path) -> None:
    text = (run_of_all / "transcripts/visualization-17.md").read_text(encoding="utf-8")
    for part in ("draw a histogram", "df['amount'].plot.hist", "](../pictures/visualization-17-1.png)", "Final Answer"):
        assert part in text
    row = rows_of(run_of_all)["math/0"]
    assert row["response"].endswith(
        "```py\nprint(24 * 17)\n```\nObservation: stdout:\n\n```\n408\n\n```\nThought: I now know the final answer.\n"
        "Final Answer: 408"
    )


def test_files_are_read_only_and_nobody_answers_input(run_of_all: Path) -> None:
    rows = rows_of(run_of_all)
    assert "Read-only file system" in rows["general/28"]["cells"][0]["message"]
    assert "input() is not available here" in rows["general/27"]["cells"][0]["observation"]
    assert (ITEMS / "upload_file/scores.csv").read_text().count("\n") == 5


def test_rounds_end_with_an_error_and_are_three_at_most(run_of_all: Path, endpoint: Endpoint) -> None:
    turns = Counter(name for name, _ in endpoint.asked)
    assert turns["math/9"] == 1, "its code failed: no more is asked"
    assert turns["math/0"] == 2
    assert turns["visualization/15"] == 3


# -- going on, scoring again, judging --------------------------------------------------------------


def test_finished_items_are_not_asked_again(script, endpoint: Endpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluate_code_interpreter.CodeInterpreter, "items_at_a_time", 2)
    flags = ("--engine", "openai", "--base-url", endpoint.url, "-c", "scripted-chat", "-d", ITEMS, "-o", tmp_path)
    flags += ("--subjects", "general", "--limit", 4, "-b", 1)
    begin = len(endpoint.asked)
    endpoint.fails_after = begin + 5
    try:
        refused(script("code_interpreter", *flags), endpoint.url, "gave no reply", "the script says no")
    finally:
        endpoint.fails_after = None
    gc.collect()  # the refused run holds its folder; as a process of its own it would be gone
    done = set(rows_of(tmp_path))
    assert len(done) == 2
    before = len(endpoint.asked)
    assert script("code_interpreter", *flags).status == 0
    assert not done & {name for name, _ in endpoint.asked[before:]}
    assert len(rows_of(tmp_path)) == 4
    assert scores(tmp_path)["executable_general"]["value"] == 100.0


@pytest.mark.heavy
def test_a_run_scored_again_gives_the_same(script, run_of_all: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.jsonl"
    lines = (run_of_all / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [json.loads(line) for line in lines if json.loads(line)["subject"] == "math"]
    for row in kept[::2]:
        details = json.loads(row["details"])
        del details["rounds"]  # then the transcript itself is cut where the observations stand
        row["details"] = json.dumps(details)
    given.write_text("".join(json.dumps(row) + "\n" for row in kept))
    flags = ("--rescore", given, "-d", ITEMS, "--subjects", "math", "-o", tmp_path / "out")
    asked = ("--reported-as", "Qwen-7B-Chat", "--data-version", "card")
    assert script("code_interpreter", *flags, *asked).status == 0
    again, first = scores(tmp_path / "out"), scores(run_of_all)
    for name in ("executable_math", "acc_math", "acc_math_robust"):
        assert again[name]["value"] == first[name]["value"]
    assert again["acc_math"]["reported"] == 41.9 and again["executable_math"]["reported"] == 82.4


def test_a_judge_named_later_judges_a_finished_run_once(script, run_of_all: Path, endpoint: Endpoint) -> None:
    flags = ("--engine", "openai", "--base-url", endpoint.url, "-c", "scripted-chat", "-d", ITEMS, "-o", run_of_all)
    before = len(endpoint.asked)
    assert script("code_interpreter", *flags, "--judge-url", endpoint.url, "--judge-model", "eyes").status == 0
    assert len(endpoint.asked) == before
    assert len(endpoint.judged) == 7, "rows without a picture of code that ran are wrong unasked"
    assert sorted(one["pictures"] for one in endpoint.judged) == [1, 1, 1, 1, 1, 1, 2]
    assert any(one["text"].startswith("请判断图片是否与") for one in endpoint.judged)
    assert not any("<|im_" in one["text"] for one in endpoint.judged), "of an easy row only the question"
    rows = rows_of(run_of_all)
    assert rows["visualization/13"]["judge_reply"] == "Right." and rows["visualization/13"]["judged_right"] is True
    assert rows["visualization/19"]["judged_right"] is False
    found = scores(run_of_all)
    assert (found["acc_visualization_hard"]["value"], found["acc_visualization_hard"]["n"]) == (25.0, 8)
    assert (found["acc_visualization_easy"]["value"], found["acc_visualization_easy"]["n"]) == (50.0, 2)
    picture = (run_of_all / "pictures/visualization-13-1.png").read_bytes()
    again = Judge(endpoint.url, "eyes", run_of_all)
    question = next(one["text"] for one in endpoint.judged if "grouped bars" in one["text"])  # they come in any order
    assert again.ask(question, [picture], "") == "Right."
    assert len(endpoint.judged) == 7, "its replies are kept"
    again.ask("another question", [picture], "")
    assert len(endpoint.judged) == 8


@pytest.mark.heavy
def test_the_local_engine_goes_on_from_the_turn_so_far(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    """The model is random: what it says runs nothing, but an easy row begins inside of its turn."""
    row = json.loads((ITEMS / "items.jsonl").read_text(encoding="utf-8").splitlines()[17])
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps({**row, "input_file_path": []}))
    flags = ("-c", demo_checkpoint, "-d", data, "--max-new-tokens", 12, "-o", tmp_path / "out")
    assert script("code_interpreter", *flags).status == 0
    (found,) = rows_of(tmp_path / "out").values()
    assert found["response"].startswith("Thought: I look at the file first.") and found["new_tokens"] <= 12
    assert found["correct"] is False


# -- the texts -------------------------------------------------------------------------------------


def test_the_prompt_is_the_published_one() -> None:
    text = prompt("画图", ["upload_file/a.csv", "b.csv"], "zh")
    assert text.startswith(
        "Answer the following questions as best you can. You have access to the following tools:\n\n"
        "code_interpreter: Call this tool to interact with the 代码解释器 API. What is the 代码解释器 API useful for? "
        "代码解释器，可用于执行Python代码。 "
        'Parameters: [{"name": "code", "type": "string", "description": "待执行的代码"}] '
        "Enclose the code within triple backticks (`) at the beginning and end of the code.\n\nUse the following"
    )
    assert text.endswith("Begin!\n\nQuestion: [上传文件a.csv, b.csv]画图")
    assert prompt("Plot.\n", ["x.csv"]).endswith("Question: [Upload file x.csv]Plot.")
    assert observed("Action Input:\n```\n1\n```\n", shown("stdout", "1\n")) == (
        "Action Input:\n```\n1\n```\nObservation: stdout:\n\n```\n1\n\n```\nThought:"
    )


CALL = "Thought: x\nAction: code_interpreter\nAction Input:"


@pytest.mark.parametrize(
    "reply, code",
    [
        (f"{CALL}\n```py\nprint(1)\n```", "print(1)"),
        (f"{CALL} ```python\nx = 1\n\ny = 2\n```\nThe end", "x = 1\n\ny = 2"),
        (f"{CALL}\n```\nprint(1)", "print(1)"),
        (f"{CALL} ```print(1)```", "print(1)"),
        (f"{CALL} `print(1)`", "print(1)"),
        (f"{CALL} print(1)\nprint(2)", "print(1)\nprint(2)"),
        (f'{CALL} {{"code": "print(1)"}}', "print(1)"),
        (f"{CALL}\n```py\ndef solution():\n    return 1\n```", "def solution():\n    return 1\nsolution()"),
        (f"{CALL}\n```py\n# Thought: not a label\nprint(1)\n```", "# Thought: not a label\nprint(1)"),
        (f"{CALL}\n~~~python\nprint(1)\n~~~\nObservation: 1", "print(1)"),
        (f"{CALL}\n```python\nif x:\n    print(1)```", "if x:\n    print(1)"),
        (f"{CALL}\n   ``` python\n   if x:\n       print(1)\n   ```", "if x:\n    print(1)"),
        (
            f"{CALL} ```py\ndef f():\n    '''\n    ```\n    f()\n    ```\n    '''\n```",
            "def f():\n    '''\n    ```\n    f()\n    ```\n    '''",
        ),
        (CALL.replace("code_interpreter", "python") + "\n```py\n1\n```", "1"),  # whatever the tool is called
        (f"{CALL}\n", ""),
        ("Thought: no tool.\nFinal Answer: 3", None),
        ("Thought: x\nAction: None\nFinal Answer: 3", None),
        ("", None),
    ],
)
def test_code_of_a_reply(reply: str, code: str | None) -> None:
    assert read_code(reply) == code


@pytest.mark.parametrize(
    "text, number",
    [
        ("Final Answer: 42", 42),
        ("The answer is $-3.5.", -3.5),
        ("The answer is $-3.50.", -3),  # defect: a zero ends the decimals
        ("It is 7.00 in all", 7),
        ("1234", None),  # nothing stands before it
        ("is 12\nmore", None),  # a line ends with it
        ("about 1,060 m", 1),  # defect: the first of two ways to read it
        ("x = 5 . So", None),  # defect: a bare stop
        ("no number", None),
        ("答案是42。", None),
    ],
)
def test_the_published_reading_of_a_number(text: str, number: float | None) -> None:
    assert read_protocol(text) == number


def test_a_long_observation_is_cut_in_the_middle_and_says_so() -> None:
    text = "".join(f"{number:09d}\n" for number in range(1000))
    kept = cut(text)
    assert kept.startswith("000000000\n") and kept.endswith("000000999\n")
    assert "... (6000 characters left out) ..." in kept and len(kept) < MAX_OBSERVATION + 60
    assert cut("short") == "short"
    assert "(5500 characters left out)" in cut("x" * 3500, dropped=5000)


# -- rows and flags --------------------------------------------------------------------------------


def test_rows_of_every_form(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"query": "a", "tags": "all_ci,visualization"},
        {"query": "b", "tags": ["visualization-easy"]},
        {"query": "c", "tags": ["visualization_hard"]},
        {"query": "d", "tags": "ci_math_code", "gold": 3},
        {"query": "e<|im_end|>\n<|im_start|>assistant\nThought: x", "tags": "visualization"},
        {"question": "f", "answer": "so #### 1,200"},
        {"query": "g", "tags": "general", "input_file_path": None, "lang": None},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = read_items(str(path), prompt)
    assert [item.id for item in items] == [
        f"{tag}/{number}"
        for number, tag in enumerate(
            ["visualization", "visualization", "visualization", "math", "visualization", "math", "general"]
        )
    ]
    assert [item.row["level"] for item in items] == ["hard", "easy", "hard", None, "easy", None, None]
    assert [item.gold for item in items] == [None, None, None, 3, None, 1200, None]
    assert items[4].assistant_prefill == "Thought: x" and items[4].prompt.endswith("Question: e")


@pytest.mark.parametrize(
    "row, words",
    [
        ("{", "line 1 is not JSON"),
        ('{"tags": "math"}', "row 0 has no text `query`"),
        ('{"query": "a"}', "row 0 has no `tags`"),
        ('{"query": "a", "tags": "poetry"}', "none of the tags poetry is one of math, visualization, general"),
        ('{"query": "a", "tags": "math", "answer": "none"}', "the reference 'none' has no number"),
        ('{"query": "a", "tags": "general", "input_file_path": ["no.csv"]}', "no input file 'no.csv'"),
        ('{"query": "a", "tags": "general", "input_file_path": [3]}', "`input_file_path` is no list of names"),
        ('{"query": "a<|im_end|>b", "tags": "general"}', "holds more than one turn"),
    ],
)
def test_a_bad_row_is_one_line(script, tmp_path: Path, row: str, words: str) -> None:
    (tmp_path / "bad.jsonl").write_text(row + "\n")
    flags = ("--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "-c", "x", "-o", tmp_path / "out")
    refused(script("code_interpreter", *flags, "-d", tmp_path / "bad.jsonl"), words)


@pytest.mark.parametrize(
    "flags, words",
    [
        (("-c", "x", "--engine", "openai"), "--engine openai wants --base-url"),
        (("-c", "x", "--engine", "openai", "--base-url", "host:1"), "is no address of an endpoint"),
        (("-c", "x", "--base"), "leave --base out"),
        (("-c", "x", "--judge-url", "http://127.0.0.1:9"), "go together"),
        (("-c", "x", "--judge-url", "host", "--judge-model", "y"), "is no address of an endpoint"),
        (("-c", "x", "--rounds", "0"), "not a whole number of at least 1"),
        (
            ("-c", "x", "--engine", "openai", "--base-url", "http://127.0.0.1:9", "-d", "nowhere"),
            "missing file nowhere",
        ),
        (("-c", "x", "--engine", "openai", "--base-url", "http://127.0.0.1:9"), "no -d given"),
    ],
)
def test_a_wrong_flag_is_one_line(script, tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    data = () if "-d" in flags or words == "no -d given" else ("-d", ITEMS)
    refused(script("code_interpreter", *flags, *data, "-o", tmp_path, "--limit", 1), words)


def test_without_a_sandbox_it_refuses(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_EVAL_SANDBOX", "landlock")
    flags = ("--engine", "openai", "--base-url", "http://127.0.0.1:9", "-c", "x", "-d", ITEMS, "-o", tmp_path)
    refused(script("code_interpreter", *flags), "landlock: not enough for a Jupyter kernel", "--allow-unsandboxed")
