"""`--push-to-hub REPO`: a run's .eval_results file as a pull request to a model's repository, and only by that flag."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError, one_line
from qwen_eval.export import eval_results
from qwen_eval.export.finished import read_finished


def check_push(benchmark: str, flags: Mapping[str, Any]) -> None:
    """Before a run starts. UserError for --push-to-hub where, at its end, nothing could be sent."""
    repo = flags.get("push_to_hub")
    if not repo:
        return
    eval_results.check_benchmark(benchmark)
    if part := next((name for name in eval_results.PARTS if flags.get(name)), None):
        raise UserError(f"--push-to-hub wants the whole official set, and --{part} takes a part of it; leave one out")
    _check_token(repo)


def push(folder: Path, repo: str) -> str:
    """Open a pull request with the figure of this finished run; returns its address. Only that one file is sent.

    Raises UserError for a run that is no figure of the model, without a token, and where the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    run = read_finished(folder)
    (path,) = eval_results.write(run, folder / "export" / "eval-results")
    _check_token(repo)
    place = f".eval_results/{path.name}"
    print(f"sending {place} to a pull request of {repo}:\n{path.read_text(encoding='utf-8')}", file=sys.stderr, end="")
    title = f"{run.benchmark}: {run.figures[0].value:.2f}, measured with qwen-eval"
    try:
        done = HfApi().create_commit(repo, [CommitOperationAdd(place, path)], commit_message=title, create_pr=True)
    except Exception as error:  # the hub's client raises whatever its HTTP layer does
        raise UserError(
            f"--push-to-hub {repo}: the hub took nothing ({one_line(error)[:200]}); once it can be reached, "
            f"`qwen-eval export {folder} --export eval-results --push-to-hub {repo}` sends {path}"
        ) from error
    return str(done.pr_url)


def _check_token(repo: str) -> None:
    from huggingface_hub import get_token

    if not get_token():
        raise UserError(f"--push-to-hub {repo}: no token of the hub; `hf auth login`, or set HF_TOKEN")
