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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import manifest, tables
from .baseline import Baseline
from .data import Item, items_sha256, subset
from .decoding import resolve as resolve_decoding
from .errors import UserError
from .journal import Journal
from .missing import Missing, endpoint_notes
from .progress import progress
from .reported import find
from .rescore import keep_generated
from .stats import Score
from .target import DEMO, Target


class Run(Target):
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
        self.started = time.time()

    def shots(self, base: int, chat: int) -> int:
        """Examples in the prompt: `-k`, else the protocol's number for this kind of model."""
        if self.args.num_fewshot is not None:
            return self.args.num_fewshot
        return chat if self.chat else base

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
        identity = self.identity(self.settings)
        suffix = "-rescored" if self.replies else ""
        self.folder = self.args.output_dir or Path("results") / self.model / f"{self.output_name}{suffix}"
        fresh = self.args.overwrite or self.replies is not None
        if self.replies is not None and not self.args.overwrite:
            keep_generated(self.folder)
        self.journal = Journal(self.folder, manifest.digest(identity), fresh)
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

    # -- asking --------------------------------------------------------------------------------------------------------

    def choose(self, candidates: Sequence[str], max_seq_len: int | None = None) -> Iterator[tuple[Item, list[float]]]:
        """Next-token logits of the candidates (texts of one token each) for every unfinished item.

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
        ids = self.engine.single_tokens(candidates)
        from .engine import ChoiceRequest

        requests = []
        for item, tokens in zip(todo, self.engine.encode([item.prompt for item in todo], self.chat), strict=True):
            if max_seq_len is not None and len(tokens) > max_seq_len:
                self.was_cut.add(item.key)
                tokens = tokens[len(tokens) - max_seq_len + 1 :]
            self._keep_prompt(item, tokens)
            requests.append(ChoiceRequest(tokens, ids))
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
        from .engine import NoReply

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
        """Write one finished item; `correct` must be a bool."""
        if type(fields["correct"]) is not bool:
            raise TypeError(f"{item.id}: correct is {fields['correct']!r}; a bool by contract")
        if item.key in self.was_cut:
            fields["cut"] = True
        fields.update(self.endings.get(item.key, {}))
        fields.setdefault("prompt", self.prompt_text(item))
        self.encoded.pop(item.key, None)
        dropped = self.journal.fresh
        self.journal.append(item, fields)
        if dropped:  # tables of the dropped run would stand beside the new one's samples
            for name in ("results.json", "table.md", "table.csv", "grid.csv", "plot.png", "plot.svg"):
                (self.folder / name).unlink(missing_ok=True)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The finished lines in the order of the items."""
        return [self.journal.records[item.key] for item in self.items]

    def list_disagreements(self, ids: Sequence[str]) -> str:
        """Write the items on which two readings differ to disagreements.txt; returns the note that says so."""
        tables.write_atomically(self.folder / "disagreements.txt", "".join(f"{name}\n" for name in ids))
        return f"protocol and robust reading differ on {len(ids)} items (disagreements.txt)"

    # -- the end -------------------------------------------------------------------------------------------------------

    def reported(self, score: Score, shots: int | None, split: str = "") -> Any:
        if not score.compared:
            return None
        name, path = self.reported_in()
        key = self._key(score, shots, split)
        return find(name, key["benchmark"], key["metric"], shots, key["split"], path, score.setting)

    def _key(self, score: Score, shots: int | None, split: str) -> dict[str, Any]:
        """The columns of reported_numbers.csv that a score's figure is looked up by."""
        return {
            "benchmark": score.benchmark or self.benchmark,
            "split": split if score.split is None else score.split,
            "shots": shots,
            "metric": score.metric,
            "variant": score.setting,
        }

    def report(
        self,
        scores: Mapping[str, Score],
        breakdowns: Mapping[str, Mapping[str, Score]] | None = None,
        notes: Sequence[str] = (),
        shots: int | None = None,
        split: str = "",
        extra: Mapping[str, Any] | None = None,
        grid: Callable[[Sequence[tables.Line]], tables.Grid] | None = None,
    ) -> int:
        """Print and write the tables; returns the exit status (1: significantly worse than `--baseline`).

        scores: name -> Score, the headline first; breakdowns: title -> name -> Score, without reported figures.
        grid: makes of the scores, laid beside their reported figures, a table that stands above all others (grid.csv).
        """
        lines = [
            tables.line(name, score, self.reported(score, shots, split), self.subset) for name, score in scores.items()
        ]
        parts: list[tables.Table | tables.Grid] = [grid(lines)] if grid else []
        parts.append(tables.Table("each figure" if grid else "", lines))
        for title, part in (breakdowns or {}).items():
            if not part:
                continue
            parts.append(tables.Table(title, [tables.line(name, score) for name, score in part.items()]))
        notes = [*self._notes(lines), *notes]
        status, comparison = 0, None
        if self.baseline:
            status, note, comparison = self.baseline.compare(self.records)
            notes.append(note)
        kind = ("chat" if self.chat else "base") + ("" if shots is None else f", {shots}-shot")
        title = f"{self.benchmark} - {self.model} ({kind})"
        results = {
            "benchmark": self.benchmark,
            "model": self.model,
            "scores": {
                row.name: {
                    **tables.score_json(row),
                    **({"row": self._key(row.score, shots, split)} if row.score.compared else {}),
                }
                for row in lines
            },
            **({"baseline": comparison} if comparison else {}),
            **(extra or {}),
            **({"requests": self.requests, "missing": self.missing.as_json()} if self.requests else {}),
            "notes": notes,
            # torch knows the hardware by now
            "manifest": {
                **self.manifest,
                **manifest.environment(),
                "seconds": round(time.time() - self.started, 1),
                "finished": manifest.now(),
            },
        }
        tables.write_atomically(self.folder / "table.md", tables.markdown(title, parts, notes))
        tables.write_atomically(self.folder / "table.csv", tables.as_csv(parts))
        if isinstance(parts[0], tables.Grid):
            tables.write_atomically(self.folder / "grid.csv", tables.grid_csv(parts[0]))
        tables.write_results(self.folder, results)
        self.journal.close()
        tables.show(title, parts, [*notes, f"written to {self.folder}"])
        if self.missing:
            print(f"error: {self.missing.notes(len(self.items))[0]}", file=sys.stderr)
            return 2
        return status

    def _notes(self, lines: Sequence[tables.Line]) -> list[str]:
        notes = self.missing.notes(len(self.items)) + endpoint_notes(self.requests, self.records)
        if self.subset:
            notes.append(f"subset: {len(self.items)} of {self.whole} items; the verdict is about these only")
        if cut := sum(bool(record.get("cut")) for record in self.records):
            notes.append(f"prompts longer than --max-seq-len, which lost their beginning as published: {cut}")
        if long := sum(record.get("finish") == "length" for record in self.records):
            notes.append(f"replies that reached {self.decoding.max_new_tokens} new tokens without a stop: {long}")
        if not any(row.reported for row in lines):
            notes.append(
                f"no reported figure for {self.model!r} in this setting (--reported-as names a model of the cards)"
            )
        return notes
