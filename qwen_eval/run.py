"""One run of one benchmark: from the flags to the tables, resumable at every item.

run = Run(args, "name")                    which checkpoint, base or chat, which reported figures
run.start(items, settings)                 opens the output folder, reads back what is finished
for item, logits in run.choose(...):       only what is not finished goes to the engine
    run.save(item, prediction=..., correct=...)
return run.report(scores, tables, notes)   table.md, table.csv, results.json; the exit status
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item, items_sha256, subset
from qwen_eval.engines.decoding import resolve as resolve_decoding
from qwen_eval.errors import UserError, disk_error
from qwen_eval.places import DEMO
from qwen_eval.progress import progress
from qwen_eval.reporting import manifest
from qwen_eval.reporting.baseline import Baseline
from qwen_eval.reporting.journal import Journal
from qwen_eval.reporting.missing import Missing
from qwen_eval.reporting.protocol import departures
from qwen_eval.reporting.report import Reporting
from qwen_eval.reporting.samples import FORMAT
from qwen_eval.rescore import keep_generated

# What a run writes at its end; an earlier run's goes with its last sample.
REPORTS = ("results.json", "table.md", "table.csv", "grid.csv", "plot.png", "plot.svg", "disagreements.txt")


class Run(Reporting):
    """The state of one run. Public attributes: those of Target, `items` (less those without a reply, which are in
    `missing`), `records` (one per item)."""

    def __init__(
        self, args: argparse.Namespace, benchmark: str, official_n: int | None = None, choice: bool = False
    ) -> None:
        """benchmark: name in the reported figures; official_n: items of the whole benchmark (fewer is a subset);
        choice: the base protocol compares logits, so given replies are read as a chat model's."""
        super().__init__(args, choice)
        self.benchmark = self.output_name = benchmark
        self.own_samples = self.demo and not args.eval_data_path  # the demo's, fewer than the benchmark has
        self.official_n = None if self.own_samples else official_n
        self.endings: dict[tuple[str, int], dict[str, Any]] = {}  # of each item's last reply
        self.encoded: dict[tuple[str, int], Any] = {}  # each item's prompt as it went to the engine
        self.was_cut: set[tuple[str, int]] = set()  # items whose prompt was longer than --max-seq-len
        self.missing = Missing(self.endpoint or self.model)
        self.departures: list[str] = []  # scripts add the flags of their own
        self.shots_given = False
        self.started = time.time()

    def shots(self, base: int, chat: int) -> int:
        """Examples in the prompt: `-k`, else the protocol's number for this kind of model."""
        usual, given = chat if self.chat else base, self.args.num_fewshot
        self.shots_given = given not in (None, usual)
        return usual if given is None else given

    @property
    def data_path(self) -> str | None:
        """`-d`; for the demo its own samples where no `-d` is given."""
        return str(DEMO / "data" / self.benchmark) if self.own_samples else self.args.eval_data_path

    # -- the output folder ---------------------------------------------------------------------------------------------

    def start(
        self,
        items: Sequence[Item],
        settings: Mapping[str, Any],
        decoding: Mapping[str, Any] | None = None,
        chosen: Sequence[Item] | None = None,
    ) -> None:
        """Open the output folder for these items, less what --limit, --sample or a short reply file leaves out.

        chosen: what is left of them, from a script that has applied --limit and --sample itself.
        settings: all of the protocol that changes a prompt or a reply; decoding: what the benchmark fixes of
        decoding.Decoding, for runs that generate.
        """
        self.baseline = Baseline(self.args.baseline) if self.args.baseline else None
        self.items = (
            subset(items, self.args.limit, self.args.sample, self.args.seed) if chosen is None else list(chosen)
        )
        if self.replies is not None:
            self.items = self.replies.match(items, self.items, part=bool(self.args.subjects))
        if self.baseline:
            self.baseline.check(self.items)
        self.whole = max(len(items), self.official_n or 0)
        self.subset = len(self.items) < self.whole or (self.official_n is None and bool(self.args.subjects))
        self.settings = {"benchmark": self.benchmark, "chat": self.chat, **settings, **self.long_context}
        if decoding is not None:
            self.decoding = resolve_decoding(self.checkpoint, decoding, self.args)
            self.settings["decoding"] = {
                **self.decoding._asdict(),
                "seed": self.args.seed if self.decoding.temperature else None,
            }
        self.departures += departures(self, None if decoding is None else self.decoding, decoding)
        identity = self.identity(self.settings)
        suffix = "-rescored" if self.replies else ""
        self.folder = self.args.output_dir or Path("results") / self.model / f"{self.output_name}{suffix}"
        fresh = self.args.overwrite or self.replies is not None
        if self.replies is not None and not self.args.overwrite:
            keep_generated(self.folder)
        self.journal = Journal(self.folder, manifest.digest([identity, FORMAT]), fresh)
        self._say_what_to_know()
        self.manifest = {
            **manifest.environment(),
            **identity,
            "data_sha256": items_sha256(self.items),
            "seed": self.args.seed,
            "limit": self.args.limit,
            "sample": self.args.sample,
            "subjects": self.args.subjects,
            "started": manifest.now(),
        }
        self.to_show = 3 if self.args.debug else 0  # prompts

    def _say_what_to_know(self) -> None:
        """What one who waits for the answers should know: that a chat checkpoint is asked as base, or the reverse; and
        after a wrong -d, or when a data set was mended, why finished items are asked again."""
        if self.mode_note:
            print(f"note: {self.mode_note}", file=sys.stderr)
        lines = [item for item in self.items if item.key in self.journal.records and item.prompt]  # "": not known yet
        if stale := sum(not self.journal.finished(item) for item in lines):
            print(
                f"{stale} of {len(lines)} finished items had another prompt, answer or test in the data; "
                "they are asked again",
                file=sys.stderr,
            )

    # -- asking --------------------------------------------------------------------------------------------------------

    def choose(self, candidates: Sequence[str], max_seq_len: int | None = None) -> Iterator[tuple[Item, list[float]]]:
        """Next-token logits of the candidates (texts that are one token behind the prompt) for every unfinished item.

        Prompts over `max_seq_len` tokens keep their last `max_seq_len - 1`, as published; their lines say `cut`.
        """
        todo = self.unfinished()
        if self.replies is not None:
            for item in todo:
                self._keep_prompt(item)
                yield item, self.replies.logits(item, len(candidates))
            return
        if not todo:
            return
        from qwen_eval.engines.base import ChoiceRequest

        requests = []
        prompts = [item.prompt for item in todo]
        ids = self.engine.candidate_ids(prompts, candidates, self.chat)
        for item, tokens, own in zip(todo, self.engine.encode(prompts, self.chat), ids, strict=True):
            if max_seq_len is not None and len(tokens) > max_seq_len:
                self.was_cut.add(item.key)
                tokens = tokens[len(tokens) - max_seq_len + 1 :]
            self._keep_prompt(item, tokens)
            requests.append(ChoiceRequest(tokens, own))
        with progress(self.benchmark, len(self.items) - len(todo), len(self.items)) as bar:
            for index, logits in self.engine.choose(requests):
                yield todo[index], logits
                bar.update()

    def generate(self, items: Sequence[Item] | None = None) -> Iterator[tuple[Item, str]]:
        """The reply to every unfinished item, decoded as `start` was told; with --rescore the given replies.

        items: ask these only, in place of `self.items`: where a prompt depends on earlier replies, the items of one
        turn after the other, each with its prompt filled in.
        A line says how its reply ended (`finish`: "stop" or "length") and how many tokens it has (`new_tokens`).
        """
        todo = self.unfinished(items)
        if self.replies is not None:
            for item in todo:
                self._keep_prompt(item)
                yield item, self.replies.text(item)
            return
        if not todo:
            return
        from qwen_eval.engines.base import NoReply

        begun = [item.begun for item in todo] if any(item.begun for item in todo) else None
        prompts = self.engine.encode([item.prompt for item in todo], self.chat, True, begun)
        for item, prompt in zip(todo, prompts, strict=True):
            self._keep_prompt(item, prompt)
        requests = self.engine.generate_requests(
            prompts,
            self.decoding,
            self.chat,
            [manifest.digest([self.args.seed, item.id, item.sample]) for item in todo],
        )
        total = len(self.items if items is None else items)
        with progress(self.benchmark, total - len(todo), total) as bar:
            for index, reply in self.engine.generate(requests):
                item = todo[index]
                if isinstance(reply, NoReply):
                    self.missing.add(item, reply)
                else:
                    self.endings[item.key] = {"finish": reply.finish, "new_tokens": reply.tokens}
                    if reply.reasoning:
                        self.endings[item.key]["reasoning"] = reply.reasoning
                    yield item, reply.text.strip() if self.chat and not item.begun else reply.text
                bar.update()
        self.leave_out_missing()

    def _keep_prompt(self, item: Item, encoded: Any = None) -> None:
        """Remember what the model is asked, for the item's line; of several turns the first. `--debug` shows three.

        encoded: as it goes to the engine; None with --rescore, where no model is there to say.
        """
        self.encoded.setdefault(item.key, encoded)
        if self.to_show:
            self.to_show -= 1
            print(f"--- {item.id}\n{self.prompt_text(item)}\n---", file=sys.stderr)

    def prompt_text(self, item: Item) -> str:
        """The prompt as the model saw it, chat frame and cut included; with --rescore the benchmark's own text."""
        encoded = self.encoded.get(item.key)
        return item.prompt + item.begun if encoded is None else self.engine.prompt_text(encoded)

    def unfinished(self, items: Sequence[Item] | None = None) -> list[Item]:
        """Those of the items (default: all of the run) that have no line yet, or one of another prompt or answer."""
        return [item for item in (self.items if items is None else items) if not self.journal.finished(item)]

    def leave_out_missing(self) -> None:
        """Go on without the items that have no reply. UserError where nothing is left."""
        if not self.missing:
            return
        self.items, asked = [item for item in self.items if item not in self.missing], self.items
        self.subset = True
        if not self.items:
            raise UserError(f"{self.missing.asked} gave no reply to any of {len(asked)} items ({self.missing.summary})")

    def save(self, item: Item, **fields: Any) -> None:
        """Write one finished item. Fields that are not in samples.FIELDS are the benchmark's own."""
        if item.key in self.was_cut:
            fields["cut"] = True
        fields.update(self.endings.get(item.key, {}))
        fields.setdefault("prompt", self.prompt_text(item))
        self.encoded.pop(item.key, None)
        dropped = self.journal.fresh
        self.journal.append(item, fields)
        if dropped:  # tables of the dropped run would stand beside the new one's samples
            for name in REPORTS:
                with disk_error(self.folder / name):
                    (self.folder / name).unlink(missing_ok=True)
