"""ReAct replies: protocol extraction to the letter, and robust extraction."""

import json

from qwen_eval.extraction.react import (
    Action,
    calls_a_tool,
    canonical_json,
    canonical_json_robust,
    read_action,
    read_action_robust,
    read_final_answer,
)

import pytest

CALL = "Action: a\nAction Input: {}\n"


def test_recorded_replies_are_read_as_the_published_script_does(shared):
    for line in (shared / "goldens/plugin_react.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        said, wanted = read_action(row["gen"]), read_action(row["response"])
        assert said.name == row["gen_action"]
        assert canonical_json(said.input) == row["gen_action_input"]
        assert canonical_json(wanted.input) == row["ref_action_input"]
        assert calls_a_tool(row["gen"]) == row["calls_a_tool"]
        selected = calls_a_tool(row["gen"]) and said.name.lower() == wanted.name.lower()
        assert selected == row["tool_selected"]


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        # without `Action:` the name begins six characters into the reply, without `Action Input:` the input twelve
        ("Thought: I know it.", Action("t: I know it.", "now it.")),
        ("Thought: t\nAction: map", Action("map", "ction: map")),
        # `Action Input:` is the first one in the reply, even in front of `Action:`
        ("Action Input: {}\nAction: map", Action("", "{}\nAction: map")),
        # several calls: the first name, and the input up to the first Observation, with the second call in it
        (f"{CALL}Action: b\nAction Input: {{}}\nObservation: x", Action("a", "{}\nAction: b\nAction Input: {}")),
        # an Observation in front of the call: the input ends before it begins
        ("Observation: x\nAction: map\nAction Input: {}", Action("map", "")),
    ],
)
def test_missing_and_repeated_markers_count_as_str_find_has_them(reply, action):
    assert read_action(reply) == action


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{'b': 1, a: [true, null],}", '{"a": [true, null], "b": 1}'),
        ('{"城市": "\\u5317京"}', '{"城市": "北京"}'),
        ("// two lines\n{x: +.5, y: 0x1F}", '{"x": 0.5, "y": 31}'),
        ("NaN", "NaN"),
        ('"free text"', '"free text"'),
        ("free text", ""),
        ("", ""),
        ('{"a": 1} and more', ""),
        ("[" * 100_000, ""),
    ],
)
def test_inputs_are_json5_dumped_with_sorted_keys(text, canonical):
    assert canonical_json(text) == canonical


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("Action: map\nAction Input: {}", Action("map", "{}")),
        ("Thought: x\nAction:map\nAction Input:{}\nObservation: y", Action("map", "{}")),
        ("**Action:** `map`\n**Action Input:** ```json\n{'a': 1}\n```\nObservation: y", Action("map", "{'a': 1}")),
        ("action：地图\naction input：{'城市': '北京'}", Action("地图", "{'城市': '北京'}")),
        ("Action: map Action Input: {}", Action("map", "{}")),
        ("Action: a\nAction Input: {}\nAction: b\nAction Input: {'b': 1}", Action("a", "{}")),
        ("Action: a\nAction Input: {}\nThought: now I know\nFinal Answer: 3", Action("a", "{}")),
        ("Action: map\nFinal Answer: there", Action("map", "")),
        ("Thought: no tool is needed\nAction: None\nAction Input: None\nFinal Answer: hello", None),
        ("I would take action: go there.\nFinal Answer: go", None),
        ("Final Answer: the Action: line is not needed", None),
        ("", None),
    ],
)
def test_robust_extraction_takes_the_first_call(reply, action):
    assert read_action_robust(reply) == action


def test_robust_extraction_of_an_input_takes_the_value_in_the_text():
    assert canonical_json_robust("{'a': 1}\nI wait for the result.") == '{"a": 1}'
    assert canonical_json_robust('the arguments are {"a": 1}.') == '{"a": 1}'
    assert canonical_json_robust("nothing of the kind") == canonical_json_robust("{'a': ") == ""


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{'city': 'Bath', 'days': None}", '{"city": "Bath", "days": null}'),
        ("{'a': True, \"b\": [False, 'it\\'s']} and so on", '{"a": true, "b": [false, "it\'s"]}'),
        ("{“城市”：“北京”，“天”：2}", '{"城市": "北京", "天": 2}'),
        ("{'a': open}", ""),
        ("{'a': {1, 2}}", ""),
    ],
)
def test_inputs_as_python_or_a_chinese_keyboard_writes_them(text, canonical):
    assert canonical_json_robust(text) == canonical


@pytest.mark.parametrize(
    "name",
    ["None", "none needed", "None (no tool is needed)", "No tool needed.", "no action", "N/A", "not applicable", "NULL",
     "I do not need a tool", "There is no need to call an API", "No tools are required", "无", "无。", "无需调用",
     "无需使用工具", "不需要工具", "不需要调用任何工具", "没有合适的工具",
     "不使用工具", "我不需要使用任何工具", "无工具", "**None**"],
)  # fmt: skip
def test_a_name_that_says_no_tool_is_needed_is_no_call(name):
    for reply in (
        f"Thought: x\nAction: {name}\nFinal Answer: hello",
        f"Thought: x\r\nAction: {name}\r\nAction Input: {{}}",
    ):
        assert read_action_robust(reply) is None


@pytest.mark.parametrize(
    "name", ["notes", "no_op", "nota", "无人机查询", "不动产登记", "未来天气", "google_search", "没药库"]
)
def test_a_tool_may_be_called_nearly_so(name):
    assert read_action_robust(f"Action: {name}\r\nAction Input: {{}}\r\n") == Action(name, "{}")


def test_the_final_answer():
    assert read_final_answer("Thought: so\nFinal Answer: 12 km\nby bus") == "12 km\nby bus"
    assert read_final_answer("final answer：十二公里") == "十二公里"
    assert read_final_answer("Action: map\nAction Input: {}") is None
