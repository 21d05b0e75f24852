"""Long texts for the scripts that read whole documents: from a folder, a JSONL file or a data set of the hub.

Texts are taken as they are: line ends are not changed, a byte order mark at the start is dropped. Whatever is wrong
with one is known before any work starts, and says which file, and where in it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.data.items import Item, given_path, read_jsonl, subset
from qwen_eval.data.readers import refuse_pointer
from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need
from qwen_eval.places import uses_modelscope

import numpy as np

FIELDS = ("text", "content")
FORMS = "a folder of text files, a JSONL file, or a hub data set as owner/name[:config[:split]][#field]"


class Document(NamedTuple):
    """A text: `name` is unique among its source's (a path in the folder, a row's number)."""

    name: str
    text: str


def read_documents(given: str | None) -> Iterator[Document]:
    """The documents of `-d`, one after the other, so that who needs only a few of a large data set reads only these.

    A folder: all its regular files, in the order of their paths, hidden ones left out; where it has an index.jsonl
    whose rows have a `file`, the files that are listed, in that order. JSONL (a file, or a folder with nothing else):
    the field `text`, else `content`. A hub data set: the split `test`, else `train`, and the same fields, unless
    `:config`, `:config:split` (`::split` for the default configuration) or `#field` says otherwise.

    Raises UserError for a missing source, an empty text, a text that is not UTF-8.
    """
    if given is None:
        raise UserError(f"no -d given; it takes {FORMS}")
    path = given_path(given)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        if path.suffix in (".jsonl", ".json"):
            return _jsonl(path)
        return iter([_text_file(path, path.name)])
    name = given.partition("#")[0].partition(":")[0]
    if name.count("/") != 1 or given.startswith((".", "/", "~")):
        raise UserError(f"no such file or folder: {given} (-d takes {FORMS})")
    return _hub(given)


def _folder(folder: Path) -> Iterator[Document]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if (index := folder / "index.jsonl").is_file():
        rows = read_jsonl(index, needs=())
        if rows and all(isinstance(row.get("file"), str) for row in rows):
            for row in rows:
                yield _text_file(folder / row["file"], row["file"])
            return
    texts = [path for path in files if path.suffix != ".jsonl"]
    if not files:
        raise UserError(f"{folder} has no file in it; -d takes {FORMS}")
    for path in texts or files:
        if texts:
            yield _text_file(path, path.relative_to(folder).as_posix())
        else:
            for document in _jsonl(path):
                yield Document(f"{path.relative_to(folder).as_posix()}/{document.name}", document.text)


def _text_file(path: Path, name: str) -> Document:
    try:
        data = path.read_bytes()
        refuse_pointer(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}; convert it, or leave it out"
        ) from error
    return Document(name, _filled(text, str(path)))


def _jsonl(path: Path) -> Iterator[Document]:
    try:
        rows = read_jsonl(path, needs=())
    except UserError as error:
        if isinstance(cause := error.__cause__, UnicodeDecodeError):
            raise UserError(f"{path} is not UTF-8: byte {cause.start} is 0x{cause.object[cause.start]:02x}") from error
        raise
    if not rows:
        raise UserError(f"{path} is empty: no document in it")
    for number, row in enumerate(rows):
        yield _row(row, number, str(path), None)


def _row(row: dict[str, Any], number: int, source: str, field: str | None) -> Document:
    """Row `number`, from 0, of a JSONL file or a data set."""
    for name in (field,) if field else FIELDS:
        if name in row:
            if not isinstance(row[name], str):
                raise UserError(f"{source} row {number}: {name!r} is no text")
            return Document(str(number), _filled(row[name], f"{source} row {number}"))
    wanted = repr(field) if field else "'text' or 'content'"
    raise UserError(f"{source} row {number} has no field {wanted} (it has: {', '.join(map(str, row)) or 'nothing'})")


def _filled(text: str, where: str) -> str:
    if not text.strip():
        raise UserError(f"{where} is empty: no text in it; fill it, or leave it out")
    return text


def _hub(given: str) -> Iterator[Document]:
    source, _, field = given.partition("#")
    name, config, split = (*source.split(":"), "", "")[:3]
    if uses_modelscope():
        raise UserError(f"-d {given}: documents are read from the Hugging Face hub only; give a folder or a JSONL file")
    need("data")
    import datasets

    try:
        if not split:
            splits = datasets.get_dataset_split_names(name, config or None)
            split = next((one for one in ("test", "train") if one in splits), splits[0])
        rows = iter(datasets.load_dataset(name, config or None, split=split, streaming=True))
        first = next(rows, None)
    except Exception as error:
        raise UserError(
            f"no folder or file {given!r}, and it could not be read from the Hugging Face hub "
            f"({one_line(error)[:160]}); -d takes {FORMS}"
        ) from error
    if first is None:
        raise UserError(f"-d {given}: the split {split!r} is empty")
    yield _row(first, 0, given, field or None)
    for number, row in enumerate(rows, start=1):
        yield _row(row, number, given, field or None)


class Tokens(NamedTuple):
    """A document that is long enough: `tokens` int32 [T]."""

    name: str
    text: str
    tokens: np.ndarray


class Chosen(NamedTuple):
    """long_enough: the documents that may be read; drawn: those of them that --limit or --sample leaves; short: those
    left out, with their number of tokens."""

    long_enough: list[Tokens]
    drawn: list[Tokens]
    short: dict[str, int]

    def notes(self, least: int) -> list[str]:
        """The line that counts and names the documents left out."""
        if not self.short:
            return []
        named = [f"{name} ({count:,})" for name, count in list(self.short.items())[:12]]
        more = f" and {len(self.short) - 12} more (results.json)" if len(self.short) > 12 else ""
        return [
            f"{len(self.short)} of {len(self.short) + len(self.long_enough)} documents are shorter than {least:,} "
            f"tokens and left out: {', '.join(named)}{more}"
        ]


def choose_documents(
    checkpoint: Path,
    source: str | None,
    least: int = 1,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    enough: int | None = None,
) -> Chosen:
    """The documents of at least `least` tokens by the checkpoint's tokenizer, and --limit or --sample of these.

    A data set of the hub is read only as far as `limit` needs, or `enough`, a number of tokens. UserError, naming the
    longest, when no document is long enough.
    """
    from qwen_eval.engines.local.prompts import Encoder
    from qwen_model.loading import load_tokenizer

    from tqdm import tqdm

    to_the_end = source is None or Path(source).expanduser().exists() or sample is not None
    encoder = Encoder(load_tokenizer(checkpoint))
    kept: dict[str, Tokens] = {}
    short: dict[str, int] = {}
    for document in tqdm(read_documents(source), desc="reading documents", unit="document", delay=2, leave=False):
        tokens = encoder.plain([document.text])[0]
        if document.name in kept or document.name in short:
            raise UserError(f"{source} lists {document.name!r} twice")
        if len(tokens) < least:
            short[document.name] = len(tokens)
        else:
            kept[document.name] = Tokens(document.name, document.text, tokens)
        if not to_the_end and (len(kept) == limit or (enough and sum(len(d.tokens) for d in kept.values()) >= enough)):
            break
    if not kept:
        longest = max(short, key=lambda name: short[name])
        raise UserError(
            f"none of the {len(short)} documents has {least:,} tokens: the longest, {longest}, has {short[longest]:,}; "
            f"give --lengths up to that, or longer documents"
        )
    drawn = subset([Item(name, "", "") for name in kept], limit, sample, seed)
    return Chosen(list(kept.values()), [kept[item.id] for item in drawn], short)


def parse_lengths(text: str) -> list[int]:
    """`1024,2048` as sorted lengths in tokens; ValueError for anything but whole numbers of at least 2."""
    lengths = sorted({int(word) if word.strip().isdigit() else 0 for word in text.split(",")})
    if lengths[0] < 2:
        raise ValueError(f"{text!r} is not a list of lengths of at least 2 tokens, such as 1024,2048")
    return lengths


def default_lengths(training_length: int | None) -> list[int]:
    """1,024 to 32,768, as the cards; for a model trained on less than 1,024 tokens 1x to 16x of that."""
    cards = [1024, 2048, 4096, 8192, 16384, 32768]
    if training_length is None or training_length >= cards[0]:
        return cards
    return [training_length * times for times in (1, 2, 4, 8, 16)]
