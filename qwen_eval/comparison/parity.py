"""Two ways to run a model, A and B, on the same prompts: how far their logits, answers and texts are apart.

A side's answers are the records of its runs. Of a prompt that was answered by logits, the logits of its choices are
compared; of one that was answered by a text, the texts, token by token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qwen_eval.comparison.rows import Key
from qwen_eval.comparison.significance import mcnemar
from qwen_eval.errors import UserError
from qwen_eval.reporting.samples import NO_LOGITS

import numpy as np

Record = Mapping[str, Any]
Tokens = Callable[[str], Sequence[int]]

TIE = 1e-3  # logits: a lead by which no answer is ahead of another
ROUNDING = 1e-3  # logits: what fp32 sums in another order may differ by, and no more
CLOSE_MEDIAN, CLOSE_LARGEST = 0.1, 1.0  # logits
CLOSE_FLIPS = 0.05  # of the items
CLOSE_PARTINGS = 0.01  # per token
LEVEL = 0.05  # of McNemar's test
SAME, CLOSE, DIFFERENT = VERDICTS = ("same", "close", "different")
RULE = (
    f"same: all logits within {ROUNDING:g} (the rounding of fp32), no answer flips but in a tie (both leads at most "
    f"{TIE:g}), all texts equal",
    f"close: logits within {CLOSE_MEDIAN:g} in the median and {CLOSE_LARGEST:g} at most, texts part at most "
    f"{100 * CLOSE_PARTINGS:g} time per 100 tokens, at most {100 * CLOSE_FLIPS:g} % of the answers flip, and neither "
    f"side has significantly more right (McNemar, p >= {LEVEL:g})",
    "different: all else",
)


class Flip(NamedTuple):
    """Another answer. leads: in A the logit of A's answer less that of B's, in B the other way; None for texts."""

    a: str
    b: str
    gold: str
    leads: tuple[float, float] | None

    @property
    def tie(self) -> bool:
        return self.leads is not None and max(self.leads) <= TIE


class Parting(NamedTuple):
    """Two texts that are not equal. token: the first that differs, from 1; rests: both texts from there on."""

    token: int
    rests: tuple[str, str]


class ItemParity(NamedTuple):
    """What both sides made of one item. differences: of its choices' logits, none for texts; tokens: of A's text, up to
    and with the first that differs; right: whether A's and B's answer is right."""

    key: Key
    prompt_sha256: str
    differences: Sequence[float]
    flip: Flip | None
    parting: Parting | None
    tokens: int
    right: tuple[bool, bool]


@dataclass(frozen=True)
class Measured:
    """One benchmark. choices: answered by logits, else by texts."""

    name: str
    choices: bool
    pairs: Sequence[ItemParity]

    @property
    def differences(self) -> Sequence[float]:
        return [value for pair in self.pairs for value in pair.differences]

    @property
    def flips(self) -> Sequence[tuple[Key, Flip]]:
        """Those that are the furthest from a tie first."""
        found = [(pair.key, pair.flip) for pair in self.pairs if pair.flip]
        return sorted(found, key=lambda one: -max(one[1].leads or (0.0,)))

    @property
    def partings(self) -> Sequence[tuple[Key, Parting]]:
        """The earliest first."""
        return sorted(((pair.key, pair.parting) for pair in self.pairs if pair.parting), key=lambda one: one[1].token)

    def figures(self) -> dict[str, Any]:
        """Every figure, unrounded; None for one that this kind of answer does not have."""
        flips = [flip for _, flip in self.flips]
        only_a = sum(a and not b for a, b in (pair.right for pair in self.pairs))
        only_b = sum(b and not a for a, b in (pair.right for pair in self.pairs))
        leads = [max(flip.leads) for flip in flips if flip.leads]
        tokens = [parting.token for _, parting in self.partings]
        quartiles = [float(value) for value in np.percentile(tokens, [25, 50, 75])] if tokens else [None] * 3
        compared = sum(pair.tokens for pair in self.pairs)
        texts = not self.choices
        return {
            "items": len(self.pairs),
            "median_difference": float(np.median(self.differences)) if self.choices else None,
            "largest_difference": max(self.differences) if self.choices else None,
            "flips": len(flips),
            "flips_in_ties": sum(flip.tie for flip in flips) if self.choices else None,
            "largest_lead": max(leads, default=None),
            "right_in_a_only": only_a,
            "right_in_b_only": only_b,
            "p_mcnemar": mcnemar(only_b, only_a).two_sided,
            "equal_texts": 1 - len(tokens) / len(self.pairs) if texts else None,
            "parted_at_q1": quartiles[0],
            "parted_at_median": quartiles[1],
            "parted_at_q3": quartiles[2],
            "partings_per_token": len(tokens) / max(1, compared) if texts else None,
        }


# -- from records to figures -------------------------------------------------------------------------------------------


def measure(
    name: str, a: Mapping[Key, Record], b: Mapping[Key, Record], tokens: Tokens, constant: bool, as_seen: bool
) -> Measured:
    """Compare the items that both sides have answered.

    tokens: a text's tokens; constant: a side's logits may differ from the model's by a constant per prompt (they are
    log-probabilities), so that each prompt's are compared less their mean; as_seen: both sides say how the model saw a
    prompt. UserError where prompts are not the same, or nothing can be compared.
    """
    keys = [key for key in a if key in b]
    if not keys:
        raise UserError(f"{name}: no item has a reply from both sides")
    check_prompts(name, {key: seen(a[key], as_seen) for key in keys}, {key: seen(b[key], as_seen) for key in keys})
    choices = a[keys[0]]["choice_logits"] != NO_LOGITS
    pairs = [
        _choices(key, a[key], b[key], constant) if choices else _texts(key, a[key], b[key], tokens) for key in keys
    ]
    return Measured(name, choices, pairs)


def seen(record: Record, as_seen: bool) -> str:
    """What must be equal for two answers to be compared: the sum of the prompt, and the prompt as the model saw it."""
    return f"{record['prompt_sha256']} {record['prompt'] if as_seen else ''}"


def check_prompts(name: str, a: Mapping[Key, str], b: Mapping[Key, str]) -> None:
    """UserError where an item does not have the same prompt on both sides. a, b: prompts, or their sums."""
    if other := [key for key in a if a[key] != b.get(key)]:
        raise UserError(
            f"{name}: {len(other)} of {len(a)} prompts are not the same in A and in B (the first is that of "
            f"{other[0][0]}); nothing can be compared"
        )


def _choices(key: Key, a: Record, b: Record, constant: bool) -> ItemParity:
    logits = [np.asarray(record["choice_logits"], dtype=float) for record in (a, b)]
    if len(logits[0]) != len(logits[1]):
        raise UserError(f"{key[0]}: A has logits of {len(logits[0])} choices and B of {len(logits[1])}")
    one, other = [values - values.mean() for values in logits] if constant else logits
    best, rival = int(one.argmax()), int(other.argmax())
    leads = (float(one[best] - one[rival]), float(other[rival] - other[best]))
    flip = _flip(a, b, leads) if best != rival else None
    return ItemParity(
        key, a["prompt_sha256"], np.abs(one - other).tolist(), flip, None, 0, (a["correct"], b["correct"])
    )


def _texts(key: Key, a: Record, b: Record, tokens: Tokens) -> ItemParity:
    texts = a["response"], b["response"]
    ids = [list(tokens(text)) for text in texts]
    equal = next(
        (place for place, (one, other) in enumerate(zip(*ids, strict=False)) if one != other), min(map(len, ids))
    )
    parted = texts[0] != texts[1]
    characters = next((n for n, (x, y) in enumerate(zip(*texts, strict=False)) if x != y), min(map(len, texts)))
    parting = Parting(equal + 1, (texts[0][characters:], texts[1][characters:])) if parted else None
    flip = _flip(a, b, None) if (a["prediction"], a["correct"]) != (b["prediction"], b["correct"]) else None
    return ItemParity(
        key, a["prompt_sha256"], (), flip, parting, equal + 1 if parted else len(ids[0]), (a["correct"], b["correct"])
    )


def _flip(a: Record, b: Record, leads: tuple[float, float] | None) -> Flip:
    return Flip(a["prediction"], b["prediction"], a["gold"], leads)


# -- the verdict -------------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """word: of VERDICTS; why: what keeps it from a better one, "" for `same`."""

    word: str
    why: str


def judge(measured: Measured) -> Verdict:
    """The verdict by RULE."""
    found = measured.figures()
    not_same, not_close = [], []
    if measured.choices:
        largest, median = found["largest_difference"], found["median_difference"]
        not_same += [f"a logit differs by {largest:.3g}"] if not largest <= ROUNDING else []
        not_close += [f"a logit differs by {largest:.3g}"] if not largest <= CLOSE_LARGEST else []
        not_close += [f"logits differ by {median:.3g} in the median"] if not median <= CLOSE_MEDIAN else []
    elif rate := found["partings_per_token"]:
        not_same.append(f"{len(measured.partings)} of {found['items']} texts part")
        not_close += [f"texts part {100 * rate:.2g} times per 100 tokens"] if rate > CLOSE_PARTINGS else []
    flips = found["flips"] - (found["flips_in_ties"] or 0)
    not_same += [f"{flips} of {found['items']} answers flip"] if flips else []
    if flips > CLOSE_FLIPS * found["items"]:
        not_close.append(f"{flips} of {found['items']} answers flip")
    if found["p_mcnemar"] < LEVEL:
        counts = f"{found['right_in_a_only']} answers are right in A only and {found['right_in_b_only']} in B only"
        not_close.append(f"{counts} (p = {found['p_mcnemar']:.2g})")
    if not_close:
        return Verdict(DIFFERENT, "; ".join(not_close))
    return Verdict(CLOSE, "; ".join(not_same)) if not_same else Verdict(SAME, "")


def overall(verdicts: Sequence[Verdict]) -> str:
    """The worst word."""
    return max((verdict.word for verdict in verdicts), key=VERDICTS.index)
