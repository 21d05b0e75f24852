"""Runs a reply's code over the simulated tools, by smolagents' interpreter, in a process of its own under limits.

The language is the benchmark's own interpreter's of 2023: assignments, calls of the tools and of six builtins,
constants, lists, dictionaries, f-strings, subscripts, `for`, `if`. Whatever else a reply writes is refused before it
gets to smolagents, so there are no attributes, imports, functions or operators to climb out by. The process is an
IsolatedWorker: it reads and writes no file and reaches no network where the system has such guards, has limits of CPU
time and memory, and answers in JSON. A task that runs over a limit has no result; no other task loses anything.
"""

import ast
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qwen_eval.benchmarks.hf_agent.tasks import Tool
from qwen_eval.extras import need
from qwen_eval.worker import IsolatedWorker, OverLimit

SECONDS = 5.0  # of CPU time per dialogue
MEMORY = 2 << 30  # bytes
MAX_RESULT = 100_000  # characters of a result as JSON

# What the benchmark's interpreter knew (transformers 4.29 to 4.33, tools/python_interpreter.py, evaluate_ast).
EXPRESSIONS = (ast.Call, ast.Constant, ast.Dict, ast.FormattedValue, ast.JoinedStr, ast.List, ast.Name, ast.Subscript)
STATEMENTS = (ast.Assign, ast.Expr, ast.For, ast.If)


class Ended(NamedTuple):
    """The result of a code; `ended`: "done", or "over the limit" (then there is none)."""

    result: Any
    ended: str


class Interpreter:
    """A worker process with the tools. No call of `run` sees anything of an earlier one. Raises UserError on entering
    where it cannot start."""

    def __init__(self, tools: Sequence[Tool], seconds: float = SECONDS) -> None:
        """seconds: of CPU time per call of `run`."""
        name = "the agent benchmark's interpreter"
        self._worker = IsolatedWorker(_evaluator, list(tools), name=name, seconds=seconds, memory=MEMORY)

    @property
    def guards(self) -> list[str]:
        """What the process has put up around itself."""
        return self._worker.guards

    def __enter__(self) -> "Interpreter":
        self._worker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def run(self, steps: Sequence[tuple[dict[str, str], str | None]]) -> Ended:
        """The result of the last step. steps: each one's variables and code, None where it has none; the variables
        live on from step to step."""
        try:
            return Ended(self._worker.ask(list(steps)), "done")
        except OverLimit:
            return Ended(None, "over the limit")


# --- the worker process ---


def _evaluator(tools: Sequence[Tool]) -> Callable[[list[tuple[dict[str, str], str | None]]], Any]:
    """Gets ready; returns the function that evaluates a list of steps."""
    need("agents")
    mocks = {tool.name: simulated(tool) for tool in tools}
    evaluate_steps([({"warm": "up"}, "print(f'{warm}')\nx = str(warm)")], mocks)  # loads what is loaded on first use
    return lambda steps: plain_data(evaluate_steps(steps, mocks))


def simulated(tool: Tool) -> Callable[..., str]:
    """The tool as a function: it says what it would have done. Raises ValueError where its argument is of no use."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=tool.defaults.get(name, inspect.Parameter.empty),
        )
        for name in tool.args
    ]
    signature = inspect.Signature(parameters)

    def call(*args: Any, **kwargs: Any) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        check = tool.check
        if check is not None and check["must_contain"] not in bound.arguments[check["arg"]]:
            raise ValueError(check["error"].format(**bound.arguments))
        return tool.result.format(**bound.arguments)

    return call


def evaluate_steps(steps: Sequence[tuple[dict[str, str], str | None]], tools: dict[str, Callable[..., str]]) -> Any:
    """The result of the last step's code, after the others, in one set of variables."""
    from smolagents.local_python_executor import LocalPythonExecutor

    builtins = {"print": print, "range": range, "float": float, "int": int, "bool": bool, "str": str}
    executor = LocalPythonExecutor([], timeout_seconds=None)  # our own limit ends the process, which a thread cannot
    executor.static_tools = builtins
    executor.custom_tools = tools.copy()  # names that the code may take for its variables
    result = None
    for inputs, code in steps:
        executor.send_variables(inputs)
        result = None if code is None else _evaluate(code, executor)
    return result


def _evaluate(code: str, executor: Any) -> Any:
    """The value of the last statement that has one; an assignment has its right side's.

    As the benchmark: what its interpreter does not know, or a name that is not defined, ends the code there and the
    result so far counts; any other error, a tool's too, and there is no result.
    """
    from smolagents.local_python_executor import InterpreterError

    result = None
    try:
        for statement in ast.parse(code).body:
            try:
                known = _plain(statement)
                value = executor(ast.unparse(known)).output
            except InterpreterError as error:
                # smolagents passes every error on as its own; which it was is the context
                if isinstance(error.__context__, Exception) and not isinstance(error.__context__, InterpreterError):
                    return None
                break
            if value is not None:
                result = value
    except Exception:  # SyntaxError, ValueError, RecursionError, MemoryError ...
        return None
    return result


def _plain(statement: ast.stmt) -> ast.stmt:
    """The statement without format specifications, which the benchmark's interpreter ignores.

    Raises InterpreterError for what it does not know, AttributeError for what it trips over.
    """
    from smolagents.local_python_executor import InterpreterError

    conditions = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
            raise InterpreterError(f"{type(node).__name__} is not supported")
        if isinstance(node, ast.If):
            if not isinstance(node.test, ast.Compare):
                raise AttributeError("a condition that is no comparison")
            conditions.add(node.test)
        if isinstance(node, (ast.Assign, ast.For)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not all(isinstance(target, ast.Name) for target in targets):
                raise AttributeError("an assignment to something else than a name")
            if len(targets) > 1:
                raise InterpreterError("an assignment to several names")
        if isinstance(node, ast.FormattedValue):
            node.format_spec, node.conversion = None, -1
        if isinstance(node, ast.Compare) and (node not in conditions or len(node.ops) > 1):
            raise InterpreterError("Compare is not supported")
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            raise InterpreterError("only the tools may be called")
        if isinstance(node, ast.expr) and not isinstance(node, (*EXPRESSIONS, ast.Compare)):
            raise InterpreterError(f"{type(node).__name__} is not supported")
    return statement


def plain_data(value: Any) -> Any:
    """A result as JSON's types; one that is no plain data, or too long, becomes something that no task expects."""
    try:
        text = json.dumps(value, skipkeys=True)
    except (TypeError, ValueError, RecursionError):
        return {"no plain data": type(value).__name__}
    return json.loads(text) if len(text) <= MAX_RESULT else {"too long": len(text)}
