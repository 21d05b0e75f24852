"""What a run is, and how it is made of a benchmark and the flags.

A Run is complete when it is made: what is asked (benchmark, setting, items), who answers (target), where it goes
(folder, journal, manifest).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwen_eval import protocols
from qwen_eval.answers import MODEL_REQUESTS, Task
from qwen_eval.benchmark import Benchmark, Content, Generate, Item, Record, RecordOf, ScoreTokens, Setting
from qwen_eval.card_sampling import card_sampling
from qwen_eval.data.fingerprints import read_official
from qwen_eval.data.items import items_sha256
from qwen_eval.data.official import Comparison, compare
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.decoding import resolve as resolve_decoding
from qwen_eval.places import DEMO
from qwen_eval.reporting import manifest
from qwen_eval.reporting.baseline import Baseline
from qwen_eval.reporting.journal import Journal
from qwen_eval.reporting.missing import Missing
from qwen_eval.reporting.protocol import departures
from qwen_eval.reporting.samples import FORMAT
from qwen_eval.rescore import keep_generated
from qwen_eval.sampled_replies import expanded, samples_each
from qwen_eval.target import Target


@dataclass
class Run:
    """A run that is ready to ask.

    items: those of this run, with their prompts; whole: how many the whole benchmark has; official: how many the
    official set has (None: not known, and for the demo's own samples); data: what all items of the data are beside the
    official set (None: it is not known, and for the demo's own samples); by_part: --subjects leaves some out; missing:
    items to which an endpoint gives no reply, put aside as that happens.
    """

    benchmark: Benchmark
    setting: Setting
    target: Target
    items: list[Item]
    whole: int
    official: int | None
    data: Comparison | None
    by_part: bool
    decoding: Decoding | None
    departures: list[str]
    baseline: Baseline | None
    journal: Journal
    manifest: dict[str, Any]
    started: float
    missing: Missing

    @property
    def folder(self) -> Path:
        return self.setting.folder

    @property
    def records(self) -> list[Record]:
        """The finished records in the order of the items."""
        return [self.journal.records[item.key] for item in self.items if item not in self.missing]

    @property
    def subset(self) -> bool:
        """Whether the records are not all of the benchmark."""
        return len(self.items) - len(self.missing) < self.whole or self.by_part


def make_setting(benchmark: Benchmark, target: Target) -> Setting:
    """How this run asks."""
    flags = target.args
    protocol = getattr(flags, "protocol", None) or protocols.default_for(benchmark.name, target.family)
    usual = benchmark.usual_shots(protocol, target.chat)
    given = getattr(flags, "num_fewshot", None)
    own_samples = target.demo and not flags.eval_data_path
    setting = Setting(
        chat=target.chat,
        shots=usual if given is None else given,
        flags=flags,
        data_path=str(DEMO / "data" / benchmark.name) if own_samples else flags.eval_data_path,
        own_samples=own_samples,
        given=target.replies.by_key if target.replies else None,
        checkpoint=target.checkpoint,
        model=target.model,
        protocol=protocol,
    )
    suffix = protocols.suffix(benchmark.name, protocol, target.family)
    suffix += (target.thinking.suffix if target.thinking else "") + ("-rescored" if target.replies else "")
    usual_folder = Path("results") / target.model / f"{benchmark.output_name(setting)}{suffix}"
    samples = samples_each(benchmark, setting, resolved_decoding(benchmark, setting, target))
    return replace(setting, folder=flags.output_dir or usual_folder, samples=samples)


def fixed_decoding(benchmark: Benchmark, setting: Setting, target: Target) -> Mapping[str, Any] | None:
    """What the model's card and the benchmark fix of the decoding; None where nothing is generated."""
    own = benchmark.decoding(setting)
    card = card_sampling(target)
    return own if own is None or card is None else {**card.settings, **own}


def resolved_decoding(benchmark: Benchmark, setting: Setting, target: Target) -> Decoding | None:
    """How the replies of a run are decoded; None where none is generated."""
    fixed = fixed_decoding(benchmark, setting, target)
    return None if fixed is None else resolve_decoding(target.generation_folder, fixed, target.args)


def make_run(benchmark: Benchmark, setting: Setting, target: Target, loaded: Sequence[Item], started: float) -> Run:
    """The run of these items, less what --limit, --sample or a short reply file leaves out; opens the output folder."""
    flags = target.args
    baseline = Baseline(flags.baseline) if flags.baseline else None
    items = expanded(benchmark.choose_items(loaded, setting), setting.samples)
    loaded = expanded(loaded, setting.samples)
    if target.replies is not None:
        target.replies.leave_out(*benchmark.outside(setting))
        items = target.replies.match(loaded, items, part=bool(flags.subjects))
    if baseline:
        baseline.check(items)
    official = None if setting.own_samples else benchmark.official(setting)
    official = official and official * setting.samples
    whole = max(len(loaded), official or 0)
    data = compare_data(benchmark, setting, loaded)
    decoding = resolved_decoding(benchmark, setting, target)
    settings = {
        "benchmark": benchmark.name,
        "chat": setting.chat,
        **({} if setting.samples == 1 else {"num_samples": setting.samples}),
        **benchmark.protocol(setting),
        **({} if setting.protocol == protocols.FIRST else {"protocol": setting.protocol}),
        **({} if target.thinking is None else {"thinking": "on" if target.thinking.on else "off"}),
        **target.long_context,
        **target.kv_cache,
    }
    if decoding is not None:
        settings["decoding"] = {**decoding.as_json(), "seed": flags.seed if decoding.temperature else None}
    identity = target.identity(settings)
    if target.replies is not None and not flags.overwrite:
        keep_generated(setting.folder)
    fresh = flags.overwrite or target.replies is not None
    journal = Journal(setting.folder, manifest.digest([identity, FORMAT]), fresh)
    asked = first_prompts(benchmark, items, setting, journal)
    return Run(
        benchmark=benchmark,
        setting=setting,
        target=target,
        items=[item for item, _ in asked],
        whole=whole,
        official=official,
        data=data,
        by_part=official is None and bool(flags.subjects) and not benchmark.figures_per_subject,
        decoding=decoding,
        departures=[
            *benchmark.departures(setting),
            *protocol_departure(benchmark, setting, target),
            *(data.departures if data else []),
            *departures(target, decoding, fixed_decoding(benchmark, setting, target)),
        ],
        baseline=baseline,
        journal=journal,
        manifest={
            **manifest.environment(),
            **identity,
            "data_sha256": items_sha256(by_data for _, by_data in asked),
            "data": data and data.as_json(),
            "seed": flags.seed,
            "limit": flags.limit,
            "sample": flags.sample,
            "subjects": flags.subjects,
            "started": manifest.now(),
        },
        started=started,
        missing=Missing(target.endpoint or target.model),
    )


def protocol_departure(benchmark: Benchmark, setting: Setting, target: Target) -> list[str]:
    """`--protocol` where it is not that of the model whose figures stand beside."""
    usual = protocols.default_for(benchmark.name, target.family)
    return ["--protocol"] if target.family and setting.protocol != usual else []


def compare_data(benchmark: Benchmark, setting: Setting, loaded: Sequence[Item]) -> Comparison | None:
    """What all items of the data are beside the official set; None where none is known, and for the demo's samples."""
    official = None if setting.own_samples else read_official(benchmark.data_set(setting))
    if official is None:
        return None
    contents = contents_of(benchmark, loaded)
    return compare(official, contents, examples_of(benchmark, loaded), setting.flags.subjects) if contents else None


def contents_of(benchmark: Benchmark, items: Sequence[Item]) -> dict[str, tuple[str, Content]]:
    """Subject and content of each item by its id; nothing where the benchmark does not say its items' content."""
    found = ((item, benchmark.content(item)) for item in items if not item.sample)
    return {item.id: (item.subject, content) for item, content in found if content is not None}


def examples_of(benchmark: Benchmark, items: Sequence[Item]) -> dict[str, Sequence[Content]]:
    """The few-shot examples of each subject, those of its first item."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.subject, item)
    return {subject: benchmark.example_contents(item) for subject, item in first.items()}


def first_prompts(
    benchmark: Benchmark, items: Sequence[Item], setting: Setting, journal: Journal
) -> list[tuple[Item, Item]]:
    """Each item twice: with what the model is asked first, as far as that is known (a prompt may rest on the record of
    an item that is not finished); and as the data alone make it, without a prompt that rests on records."""
    finished: set[tuple[str, int]] = set()
    found = []
    for item in items:
        task = Task(item, benchmark.evaluate(item, setting))
        request, by_data = _request(task, None), True
        while isinstance(request, RecordOf):
            by_data = False
            if (key := (request.id, request.sample)) not in finished:
                break
            request = _request(task, journal.records[key])
        task.evaluation.close()
        asked = with_prompt(item, request)
        if journal.finished(asked):
            finished.add(asked.key)
        found.append((asked, asked if by_data else item))
    return found


def _request(task: Task, answer: Any) -> Any:
    """What the task asks; None where it asks for nothing more."""
    try:
        return task.send(answer)
    except StopIteration:
        return None


def with_prompt(item: Item, request: Any) -> Item:
    """The item with the text of its first request, if that is to the model."""
    if not isinstance(request, MODEL_REQUESTS):
        return item
    prompt = request.text if isinstance(request, (ScoreTokens, Generate)) else request.prompt
    return replace(item, prompt=prompt, assistant_prefill=getattr(request, "assistant_prefill", ""))
