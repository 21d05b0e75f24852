"""The benchmark's tasks as data, and the prompts of its two modes.

A folder holds tasks.json (tools, `run` problems, `chat` problems) and the three templates. Source of all of them:
huggingface/transformers, src/transformers/tools/evaluate_agent.py and prompts.py of 2023 (Apache-2.0).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from qwen_eval.data.items import Hub, locate, read_json, read_text
from qwen_eval.errors import UserError, one_line

TASKS = "tasks.json"
TEMPLATES = ("run_prompt_template.txt", "chat_prompt_template.txt", "chat_message_prompt.txt")


class Tool(NamedTuple):
    """A simulated tool: `result` is a template over the arguments; `check` the argument that it looks at, if any."""

    name: str
    description: str
    args: tuple[str, ...]
    defaults: dict[str, Any]
    result: str
    check: dict[str, str] | None


class Step(NamedTuple):
    """One task with the variables it starts with. `expected[i]` is what the i-th reference returns, with the tools
    `tools[i]`; `code[i]` is that reference."""

    task: str
    inputs: dict[str, str]
    code: list[str]
    expected: list[str]
    tools: list[frozenset[str]]


class Tasks(NamedTuple):
    """`dialogues`: the steps of each, in the benchmark's order; in run mode every task is a dialogue of one step."""

    mode: str
    tools: list[Tool]
    dialogues: list[list[Step]]
    templates: dict[str, str]

    def opening(self) -> str:
        """The prompt of this mode with the tools in it, up to where the first task stands."""
        described = "\n".join(f"- {tool.name}: {tool.description}" for tool in self.tools)
        return self.templates[f"{self.mode}_prompt_template.txt"].replace("<<all_tools>>", described)

    def prompt(self, earlier: Sequence[tuple[str, str]], task: str) -> str:
        """The text that asks `task`. earlier: the dialogue's tasks so far, each with the model's reply."""
        if self.mode == "run":
            return self.opening().replace("<<prompt>>", task)
        message = self.templates["chat_message_prompt.txt"]
        text = self.opening()
        for asked, reply in earlier:
            text += message.replace("<<task>>", asked) + reply + "\n"
        return text + message.replace("<<task>>", task)


def read_tasks(given: str | None, mode: str) -> Tasks:
    """The benchmark from a folder (or its tasks.json); UserError where something is missing or is not as it should."""
    if given is None:
        raise UserError(f"--hf-agent needs -d, the folder that holds {TASKS} and its prompt templates")
    path = locate(given, Hub(given, TASKS), holds=TASKS, file_ok=True)
    path = path / TASKS if path.is_dir() else path
    templates = {}
    for name in TEMPLATES:
        if not (beside := path.parent / name).is_file():
            raise UserError(f"{path.parent} has no {name} beside {path.name}")
        templates[name] = read_text(beside).replace("\r\n", "\n")
    content = read_json(path)
    try:
        tools = [_tool(row) for row in content["tools"]]
        dialogues = _run_tasks(content["run"]) if mode == "run" else _chat_dialogues(content["chat"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"{path} is not the benchmark's tasks ({type(error).__name__}: {one_line(error)})") from error
    if not tools or not dialogues:
        raise UserError(f"{path} has no {'tools' if not tools else mode + ' tasks'} in it")
    return Tasks(mode, tools, dialogues, templates)


def _tool(row: dict[str, Any]) -> Tool:
    check = row["mock_check"]
    if check is not None and check["arg"] not in row["args"]:
        raise ValueError(f"tool {row['name']!r} checks an argument that it has not")
    row["mock_result"].format(**dict.fromkeys(row["args"], ""))  # a template over other names fails here, not in a run
    return Tool(row["name"], row["description"], tuple(row["args"]), row["defaults"], row["mock_result"], check)


def _run_tasks(problems: list[dict[str, Any]]) -> list[list[Step]]:
    return [[_step(problem, task)] for problem in problems for task in problem["tasks"]]


def _chat_dialogues(problems: list[dict[str, Any]]) -> list[list[Step]]:
    """A problem is told in several wordings, each of which is a dialogue of its own."""
    return [
        [_step(step, step["tasks"][wording]) for step in problem["steps"]]
        for problem in problems
        for wording in range(problem["dialogues"])
    ]


def _step(row: dict[str, Any], task: str) -> Step:
    code, expected = list(row["reference_code"]), list(row["expected"])
    tools = [frozenset(names) for names in row["expected_tools"]]
    if not len(code) == len(expected) == len(tools) >= 1:
        raise ValueError(f"task {task!r} has {len(code)} references, {len(expected)} results, {len(tools)} tool lists")
    return Step(task, dict(row["inputs"]), code, expected, tools)
