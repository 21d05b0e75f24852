"""Which items two runs share, and in what else than the model they differ."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from qwen_eval.comparison.rows import Key, Pair, Row, shown_key
from qwen_eval.comparison.sides import Side, described
from qwen_eval.errors import UserError


class Pairing(NamedTuple):
    """pairs: the shared items, in A's order; only_a, only_b: names of items that one side alone has; differences: why a
    change of the figures need not come from the model, a sentence each; other_prompts: pairs that were asked in other
    words."""

    pairs: list[Pair]
    only_a: list[str]
    only_b: list[str]
    differences: list[str]
    other_prompts: list[Pair]


def pair_up(a: Side, b: Side) -> Pairing:
    """Pair the items of one benchmark. Raises UserError where no item is shared."""
    partner = _by_question(a, b) if a.lm_eval or b.lm_eval else {key: key for key in a.rows if key in b.rows}
    pairs = [Pair(key, row, b.rows[partner[key]]) for key, row in a.rows.items() if key in partner]
    if not pairs:
        first_a, first_b = (shown_key(next(iter(side.rows))) for side in (a, b))
        raise UserError(f"{a.path} and {b.path} share no item (the first of each: {first_a}, {first_b})")
    shared = set(partner.values())
    return Pairing(
        pairs,
        [shown_key(key) for key in a.rows if key not in partner],
        [shown_key(key) for key in b.rows if key not in shared],
        _differences(a, b, pairs),
        [pair for pair in pairs if pair.a.prompt != pair.b.prompt],
    )


# -- by question -------------------------------------------------------------------------------------------------------


def _by_question(a: Side, b: Side) -> dict[Key, Key]:
    """A's key -> B's, where a side is of lm-evaluation-harness: copies of a data set differ in their order and ids."""
    if a.lm_eval and b.lm_eval:
        same_id = {key: key for key in a.rows if key in b.rows and _same_document(a.rows[key], b.rows[key])}
        return same_id | _by_document(a.rows, b.rows, same_id)
    if a.lm_eval:
        return {theirs: ours for ours, theirs in _ours_to_theirs(b.rows, a.rows).items()}
    return _ours_to_theirs(a.rows, b.rows)


def _same_document(a: Row, b: Row) -> bool:
    if a.question or b.question:
        return a.question == b.question
    return a.record.get("doc_hash") == b.record.get("doc_hash")


def _by_document(a: Mapping[Key, Row], b: Mapping[Key, Row], done: Mapping[Key, Key]) -> dict[Key, Key]:
    """The rest, by a question that stands once on each side."""
    found = []
    for rows in (a, b):
        by_question: dict[tuple[str, str], list[Key]] = defaultdict(list)
        for key, row in rows.items():
            if key not in done and row.question:
                by_question[row.subject, row.question].append(key)
        found.append({question: keys[0] for question, keys in by_question.items() if len(keys) == 1})
    return {key: found[1][question] for question, key in found[0].items() if question in found[1]}


def _ours_to_theirs(ours: Mapping[Key, Row], theirs: Mapping[Key, Row]) -> dict[Key, Key]:
    """An item of ours is a document of lm-evaluation-harness when the prompt is the same, or holds its question: first
    the document with the same number, then the one whose question stands nearest to the prompt's end."""
    subjects = sorted({row.subject for row in ours.values()}, key=len, reverse=True)
    rest: dict[str, list[Key]] = defaultdict(list)
    by_number: dict[tuple[str, str], Key] = {}
    by_prompt: dict[str, Key] = {}
    for key, row in theirs.items():
        by_prompt.setdefault(row.prompt, key)
        subject = next((name for name in subjects if name and name in row.subject), "")
        by_number[subject, key[0].rpartition("/")[2]] = key
        rest[subject].append(key)
    found: dict[Key, Key] = {}
    taken: set[Key] = set()
    open_items = []
    for key, row in ours.items():
        known = [row.subject, ""] if row.subject in rest else [""]
        number = key[0].rpartition("/")[2]
        same = by_prompt.get(row.prompt)
        same = same or next((by_number[name, number] for name in known if (name, number) in by_number), None)
        if key[1] == 0 and same is not None and same not in taken and _place(row, theirs[same]) >= 0:
            found[key] = same
            taken.add(same)
        elif key[1] == 0:
            open_items.append((key, row, known))
    for key, row, known in open_items:
        candidates = [one for name in known for one in rest[name] if one not in taken]
        best = max(candidates, key=lambda one: _place(row, theirs[one]), default=None)
        if best is not None and _place(row, theirs[best]) >= 0:
            found[key] = best
            taken.add(best)
    return found


def _place(ours: Row, theirs: Row) -> int:
    """Where the question ends in our prompt; -1 where it is not there."""
    question = theirs.question or theirs.prompt  # of a document that has none in a field of a known name
    start = ours.prompt.rfind(question) if question else -1
    return start + len(question) if start >= 0 else -1


# -- what differs besides the model ------------------------------------------------------------------------------------


def _differences(a: Side, b: Side, pairs: list[Pair]) -> list[str]:
    mixed, found = a.lm_eval != b.lm_eval, []
    if mixed:
        found.append("two harnesses, which may ask and read replies in different ways")
    else:
        for name in dict.fromkeys([*a.settings, *b.settings]):
            if (in_a := described(a.settings, name)) != (in_b := described(b.settings, name)):
                found.append(f"{name} is {in_a[:60]} in A and {in_b[:60]} in B")
    if a.data_sha256 and a.data_sha256 == b.data_sha256:
        return found
    by_text = a.lm_eval or b.lm_eval  # lm-evaluation-harness's own sums are of another text
    asked = [
        pair.a.prompt == pair.b.prompt if by_text else pair.a.prompt_sha256 == pair.b.prompt_sha256 for pair in pairs
    ]
    if others := [pair for pair, same in zip(pairs, asked, strict=True) if not same]:
        found.append(f"{len(others)} of {len(pairs)} shared items have another prompt ({_first(others)})")
    data = [pair for pair, same in zip(pairs, asked, strict=True) if same and pair.a.item_sha256 != pair.b.item_sha256]
    if data and not mixed:
        found.append(
            f"{len(data)} of {len(pairs)} shared items have another answer, choice or test in the data ({_first(data)})"
        )
    return found


def _first(pairs: list[Pair]) -> str:
    return f"the first: {shown_key(pairs[0].key)}"
