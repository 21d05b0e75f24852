"""`--push-to-hub REPO`: a run's .eval_results file as a pull request to a model's repository, and only by that flag."""

from pathlib import Path

from qwen_eval.errors import UserError, one_line
from qwen_eval.export import eval_results
from qwen_eval.export.finished import read_finished


def push(folder: Path, repo: str) -> str:
    """Open a pull request with the figure of this finished run; returns its address. Only that one file is sent.

    Raises UserError for a run that is no figure of the model, without a token, and where the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    run = read_finished(folder)
    (path,) = eval_results.write(run, folder / "export" / "eval-results")
    if not get_token():
        raise UserError(f"--push-to-hub {repo}: no token of the hub; `hf auth login`, or set HF_TOKEN")
    operation = CommitOperationAdd(f".eval_results/{path.name}", path)
    title = f"{run.benchmark}: {run.figures[0].value:.2f}, measured with qwen-eval"
    try:
        done = HfApi().create_commit(repo, [operation], commit_message=title, create_pr=True)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(f"--push-to-hub {repo}: the hub took nothing ({one_line(error)[:160]})") from error
    return str(done.pr_url)
