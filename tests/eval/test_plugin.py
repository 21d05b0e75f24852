"""ReAct tool use end to end: files in the published form, scripted replies, figures counted by hand."""

import json
import shutil
from pathlib import Path

from qwen_eval.extraction.react import Tool, prompt

import evaluate_plugin
import pytest
from evaluate_plugin import input_rouge_l, model_pieces, score_negative, score_positive, words_and_characters

ITEMS = Path(__file__).resolve().parent / "plugin_items"


def call(tool: str, given: str, thought: str = "I should use a tool.") -> str:
    return f"Thought: {thought}\nAction: {tool}\nAction Input: {given}\n"


@pytest.fixture
def questions() -> list[dict]:
    """60 rows: query, the three tools at hand, the one that is wanted (None for the last 30) and its input."""
    return [json.loads(line) for line in (ITEMS / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def data(questions, tmp_path) -> Path:
    """The questions in the published form."""
    tools = {row["name"]: Tool(**row) for row in json.loads((ITEMS / "tools.json").read_text(encoding="utf-8"))}
    folder = tmp_path / "data"
    folder.mkdir()
    for kind in ("positive", "negative"):
        rows = []
        for row in questions:
            if (row["tool"] is None) == (kind == "negative"):
                asked = prompt(row["query"], [tools[name] for name in row["tools"]])
                reference = "Thought: 我可以直接回答。\nFinal Answer: 好的。"
                if row["tool"]:
                    reference = call(row["tool"], json.dumps(row["input"], ensure_ascii=False))
                rows.append(json.dumps({"prompt": asked, "response": reference}, ensure_ascii=False))
        assert len(rows) == 30
        (folder / f"exam_plugin_react_{kind}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def positive_reply(number: int, row: dict) -> str:
    """24 of 30 select the tool (protocol), 26 robust; and as many inputs are the reference's."""
    given = json.dumps(row["input"], ensure_ascii=False)
    other = next(name for name in row["tools"] if name != row["tool"])
    kinds = {
        18: call(row["tool"], str(row["input"])),  # Python's quotes: JSON5
        19: call(row["tool"].upper(), given[:-1] + ",}"),
        20: call(row["tool"], json.dumps(row["input"], indent=1)) + "Observation: found",
        21: call(row["tool"], "no JSON"),
        22: call(row["tool"], given[:-1]),
        23: call(other, given),
        24: call(other, given),
        25: "Thought: I know it.\nFinal Answer: yes",
        26: "",
        27: call(row["tool"], given) + call(other, "{}"),  # two calls: no JSON to the published parser
        28: f"Thought: 想\nAction：{row['tool']}\nAction Input：{given}",  # another colon
        29: f"Action: {row['tool']}\nAction Input: {given}",  # no line before it
    }
    return kinds.get(number, call(row["tool"], given))


def negative_reply(number: int, row: dict) -> str:
    """4 of 30 call a tool (protocol), 5 robust."""
    tool = row["tools"][0]
    kinds = {
        24: call(tool, "{}"),
        25: call(tool, "not JSON"),
        26: call("a_tool_that_is_not_there", "{}"),
        27: call("None", "None"),  # a call to the published parser only
        28: f"Action: {tool}\nAction Input: {{}}",  # one to a reader only
        29: f"Thought: t\nAction:{tool}\nAction Input: {{}}",  # so is this
    }
    return kinds.get(number, "Thought: no tool is needed.\nFinal Answer: hello")


@pytest.fixture
def replies(questions, tmp_path) -> Path:
    lines = [{"id": f"positive/{n}", "response": positive_reply(n, row)} for n, row in enumerate(questions[:30])]
    lines += [{"id": f"negative/{n}", "response": negative_reply(n, row)} for n, row in enumerate(questions[30:])]
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return path


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_the_figures_are_those_counted_by_hand(script, demo_checkpoint, data, replies, tmp_path):
    out = tmp_path / "out"
    ended = script("plugin", "-c", demo_checkpoint, "-d", data, "--rescore", replies, "-o", out)
    assert ended.status == 0, ended.err
    scores = results(out)["scores"]
    assert {name: round(score["value"], 4) for name, score in scores.items()} == {
        "tool_selection_acc": 80.0,
        "tool_input_rouge_l": 0.8,
        "false_positive_rate": round(400 / 30, 4),
        "tool_selection_acc_robust": round(2600 / 30, 4),
        "tool_input_rouge_l_robust": round(26 / 30, 4),
        "false_positive_rate_robust": round(500 / 30, 4),
    }
    assert {score["n"] for score in scores.values()} == {30}
    assert "lower is better" in ended.out
    # 27: its second call; 28, 29: read by a reader only; negative 27: `None`
    differ = (out / "disagreements.txt").read_text(encoding="utf-8").split()
    assert differ == ["positive/27", "positive/28", "positive/29", "negative/27", "negative/28", "negative/29"]
    lines = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    by_id = {row["id"]: row for row in map(json.loads, lines)}
    assert [row["correct"] for row in by_id.values()].count(True) == 24 + 26
    assert by_id["negative/3"]["correct"] is True and by_id["negative/24"]["correct"] is False


OF_VERSION = {"20230803": [98.0, 0.91, 7.3], "20231206": [95.5, 0.9, 11.6]}


@pytest.mark.parametrize("version", OF_VERSION)
def test_figures_stand_beside_those_of_their_version_of_the_data(
    script, demo_checkpoint, data, replies, version, tmp_path
):
    """By what the user says, and by the published names of the files."""
    flags = ("plugin", "-c", demo_checkpoint, "--rescore", replies, "--reported-as", "Qwen-7B-Chat")
    assert script(*flags, "-d", data, "--data-version", version, "-o", tmp_path / "said").status == 0
    named = tmp_path / "named"
    named.mkdir()
    for subject in evaluate_plugin.SUBJECTS:
        shutil.copy(next(data.glob(f"*{subject}*")), named / evaluate_plugin.PUBLISHED[version].format(subject))
    assert script(*flags, "-d", named, "-o", tmp_path / "by-name").status == 0
    for folder in ("said", "by-name"):
        found = results(tmp_path / folder)
        assert [score["reported"] for score in found["scores"].values()][:3] == OF_VERSION[version]
        assert f"version of the data: {version}" in found["notes"]
        assert all(score["reported"] is None for name, score in found["scores"].items() if name.endswith("_robust"))
    assert any("never `reproduced`" in note for note in results(tmp_path / "said")["notes"])


def test_files_of_no_known_version_get_no_verdict(script, demo_checkpoint, data, replies, tmp_path):
    flags = ("-c", demo_checkpoint, "-d", data, "--rescore", replies, "--reported-as", "Qwen-7B-Chat")
    assert script("plugin", *flags, "-o", tmp_path / "out").status == 0
    found = results(tmp_path / "out")
    assert {score["verdict"] for score in found["scores"].values()} == {None}
    assert found["scores"]["tool_selection_acc"]["value"] is not None
    (note,) = (note for note in found["notes"] if "--data-version" in note)
    assert "tool_selection_acc 98 on 20230803, 95.5 on 20231206" in note


def test_without_a_tokenizer_rouge_is_over_words_and_says_so(script, data, replies, tmp_path):
    for flags in ((), ("-c", "Qwen-7B-Chat")):
        out = tmp_path / f"out{len(flags)}"
        ended = script("plugin", *flags, "-d", data, "--rescore", replies, "--reported-as", "Qwen-7B-Chat", "-o", out)
        assert ended.status == 0, ended.err
        score = results(out)["scores"]["tool_input_rouge_l"]
        assert score["value"] == pytest.approx(0.8) and score["reported"] is None
        assert any("words and characters" in note for note in results(out)["notes"])


def test_a_worse_run_is_worse_than_its_baseline(script, data, replies, tmp_path):
    """More needless calls are worse, as fewer right tools are."""
    base = ("plugin", "-d", data, "--subjects", "negative")
    assert script(*base, "--rescore", replies, "-o", tmp_path / "before").status == 0
    worse = tmp_path / "worse.jsonl"
    lines = [{"id": f"negative/{n}", "response": call("weather", "{}")} for n in range(30)]
    worse.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    ended = script(*base, "--rescore", worse, "-o", tmp_path / "now", "--baseline", tmp_path / "before")
    assert ended.status == 1 and "significantly worse" in ended.out
    better = script(*base, "--rescore", replies, "-o", tmp_path / "again", "--baseline", tmp_path / "now")
    assert better.status == 0


def test_a_model_answers_and_the_run_goes_on_where_it_was(script, demo_checkpoint, data, tmp_path):
    flags = ("-c", demo_checkpoint, "-d", data, "--chat", "--max-new-tokens", 4, "-o", tmp_path / "out")
    assert script("plugin", *flags, "--limit", 1).status == 0
    ended = script("plugin", *flags, "--limit", 2)
    assert ended.status == 0, ended.err
    content = results(tmp_path / "out")
    assert content["scores"]["tool_selection_acc"]["n"] == content["scores"]["false_positive_rate"]["n"] == 2
    stored = json.loads((demo_checkpoint / "generation_config.json").read_text(encoding="utf-8"))
    decoding = content["manifest"]["settings"]["decoding"]
    assert decoding["repetition_penalty"] == stored.get("repetition_penalty", 1.0)
    assert decoding["temperature"] == 0 and decoding["stop"] == []  # nothing stops at `Observation:`, as published
    lines = (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == ["negative/0", "negative/1", "positive/0", "positive/1"]


def test_rouge_l_is_over_the_models_tokens():
    from qwen_model import QWenTokenizer

    class Stub(QWenTokenizer):
        def __init__(self) -> None:
            pass

        def encode(self, text, **kwargs):
            return list(text.encode())

        def convert_ids_to_tokens(self, ids, skip_special_tokens=False):
            return [bytes([number]) for number in ids]

    pieces = model_pieces(Stub())
    assert pieces("a 京") == ["a", " ", "\ufffd", "\ufffd", "\ufffd"]
    # `ab` and `a b`: the token of the space is nothing once the tokens are joined by spaces and split again
    assert input_rouge_l("a b", "ab", pieces) == 1.0
    assert input_rouge_l("ac", "abc", pieces) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert input_rouge_l("", "abc", pieces) == input_rouge_l("", "", pieces) == 0.0


def test_words_and_characters():
    assert words_and_characters('{"city": "New York 12"}') == ["{", '"', "city", '"', ":", '"', "New", "York", *'12"}']
    assert words_and_characters("北京ok") == ["北", "京", "ok"]


def test_an_input_counts_whatever_tool_was_named():
    reference = call("weather", '{"city": "Oslo"}')
    scored = score_positive(call("map", "{'city': 'Oslo'}"), reference, words_and_characters)
    assert (scored["correct"], scored["tool_input"]) == (False, 1.0)
    assert score_negative("Thought: t\nAction: map\nAction Input: {}")["correct"] is False


def fails(ended, *parts: str) -> None:
    assert ended.status == 2
    assert ended.err.count("\n") == 1 and all(part in ended.err for part in parts), ended.err


def test_unusable_data_is_one_line(script, data, replies, tmp_path):
    flags = ("plugin", "--rescore", replies, "-o", tmp_path / "out", "-d")
    negative, positive = sorted(data.glob("*.jsonl"))
    fails(script(*flags, tmp_path / "none"), "no such file or folder")
    fails(script(*flags[:-1]), "no -d given")
    fails(script(*flags, positive), "is a file")

    kept = negative.read_text(encoding="utf-8")
    negative.unlink()
    fails(script(*flags, data), "no file *negative*.jsonl", "--subjects positive")
    negative.write_text(kept + "\n{", encoding="utf-8")
    fails(script(*flags, data), negative.name, "line 31 is not JSON")
    negative.write_text('{"response": "x"}', encoding="utf-8")
    fails(script(*flags, data), negative.name, "line 1 has no 'prompt'")
    negative.write_text('{"prompt": 3}', encoding="utf-8")
    fails(script(*flags, data), negative.name, "line 1: 'prompt' is 3, not a text")
    negative.write_text(kept, encoding="utf-8")

    positive.write_text('{"prompt": "x", "response": "Final Answer: 3"}', encoding="utf-8")
    fails(script(*flags, data), positive.name, "no reference calls a tool")
    (data / "more_positive.jsonl").write_text("", encoding="utf-8")
    fails(script(*flags, data), "2 files *positive*.jsonl")
    fails(script(*flags, data, "--subjects", "positiv"), "did you mean 'positive'?")


def test_the_demo_reads_its_own_questions_and_card(script, data, replies, monkeypatch, tmp_path):
    demo = tmp_path / "demo"
    shutil.copytree(data, demo / "data/plugin")
    head = "table,source,model,version,variant,benchmark,split,shots,metric,unit,value"
    row = "tool_use_react,demo-card,Qwen-demo,,,plugin_react,,0,tool_selection_acc,%,80"
    (demo / "reported_numbers.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    for module in ("run", "target"):
        monkeypatch.setattr(f"qwen_eval.{module}.DEMO", demo)
    ended = script("plugin", "-c", "demo", "--rescore", replies, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    score = results(tmp_path / "out")["scores"]["tool_selection_acc"]
    assert (score["reported"], score["verdict"]) == (80.0, "reproduced")
    fails(script("plugin", "-c", "demo", "--rescore", replies, "--hf-agent", "run"), "the demo has no agent tasks")
