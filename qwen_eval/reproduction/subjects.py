"""--subjects of several runs at once: each takes those that it has."""

from collections.abc import Mapping, Sequence

from qwen_eval.errors import UserError
from qwen_eval.places import DEMO
from qwen_eval.reproduction.tables import Part, script_module

#: where the demo's samples have a file per subject: `{subject}_{split}.csv`, or `{subject}.csv`
DEMO_FILES = {
    "mmlu": "mmlu/test/*_test.csv",
    "ceval": "ceval/val/*_val.csv",
    "cmmlu": "cmmlu/test/*.csv",
    "bbh": "bbh/bbh/*.json",
}


def subjects_of(named: str | None, parts: Sequence[Part]) -> dict[str, list[str]]:
    """The flag --subjects of each run, by its name. UserError for a subject that no run has."""
    wanted = [name for name in map(str.strip, (named or "").split(",")) if name]
    known = {part.name: getattr(script_module(part.script), "SUBJECTS", ()) for part in parts}
    for name in wanted:
        if not any(name in subjects for subjects in known.values()):
            having = ", ".join(run for run, subjects in known.items() if subjects) or "these runs"
            raise UserError(f"unknown subject {name!r} in --subjects: none of {having} has it")
    return flag_of({run: [name for name in wanted if name in subjects] for run, subjects in known.items()})


def demo_subjects(parts: Sequence[Part]) -> dict[str, list[str]]:
    """The same for those that the demo has samples of."""
    names: dict[str, list[str]] = {}
    for part in parts:
        paths = sorted((DEMO / "data").glob(DEMO_FILES[part.name])) if part.name in DEMO_FILES else []
        names[part.name] = [path.stem.removesuffix("_test").removesuffix("_val") for path in paths]
    return flag_of(names)


def flag_of(subjects: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """--subjects of each run; none where none are named."""
    return {run: ["--subjects", ",".join(names)] if names else [] for run, names in subjects.items()}
