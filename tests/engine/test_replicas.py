"""Several replicas of a model answer as one: each request once, whoever is quick, whoever is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.pieces import PIECES_PER_REPLICA, split
from qwen_eval.engines.replicas import Answer, Done, Failed, Loaded, Lost, Piece, Tell, answers
from qwen_eval.engines.replicated import ReplicatedEngine
from qwen_eval.errors import UserError

import numpy as np
import pytest


class Sums:
    """An engine whose answer is the sum of a prompt's tokens. asked: every request that it was given."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def choose(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(requests))):  # in any order
            self.asked.append(requests[index])
            if requests[index].tokens[0] == 99:
                raise UserError("token 99 is too much")
            if requests[index].tokens[0] == 98:
                raise KeyError("98")
            yield index, int(requests[index].tokens.sum())

    generate = loglikelihood = score = choose

    def notes(self) -> list[str]:
        return ["sums were computed", *["for long"] * (len(self.asked) > 20)]


class Plain:
    """A replica without a process. It answers when `run` is called, one step at a time: a test is its clock."""

    def __init__(self, name: str = "A", dies_after: int | None = None, loads: bool = True) -> None:
        """dies_after: answers that it gives before it is lost."""
        self.name, self.engine, self.loads = name, Sums(), loads
        self.left, self.stopped = dies_after, 0
        self.sizes: list[int] = []

    def start(self, tell: Tell) -> None:
        self.tell = tell
        self.tell(Loaded(1000, (frozenset({1}), frozenset({1, 2}))) if self.loads else Lost("ended by signal 9"))

    def submit(self, piece: Piece) -> None:
        self.sizes.append(len(piece.requests))
        for event in answers(self.engine, piece):  # type: ignore[arg-type]
            if self.left == 0:
                self.tell(Lost("ended by signal 9"))
                return
            if self.left is not None and isinstance(event, Answer):
                self.left -= 1
            self.tell(event)

    def stop(self) -> None:
        self.stopped += 1


def prompts(count: int = 40, start: int = 3) -> list[ChoiceRequest]:
    return [ChoiceRequest(np.arange(start, start + 2 + i % 7, dtype=np.int32) + i, (1, 2)) for i in range(count)]


def engine(*replicas: Plain) -> ReplicatedEngine:
    return ReplicatedEngine(None, replicas, full_batch=4)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_request_is_answered_once_with_its_own_index(count: int) -> None:
    replicas = [Plain(str(number)) for number in range(count)]
    asked = prompts()
    found = list(engine(*replicas).choose(asked))
    assert sorted(found) == [(index, int(request.tokens.sum())) for index, request in enumerate(asked)]
    assert sum(len(replica.engine.asked) for replica in replicas) == 40
    assert all(replica.engine.asked for replica in replicas), "work for each of them"


def test_answers_arrive_before_the_piece_is_done() -> None:
    class Slow(Plain):
        def submit(self, piece: Piece) -> None:
            self.piece = piece

    slow = Slow()
    found = engine(slow).choose(prompts(3))
    slow.submit = lambda piece: slow.tell(Answer(piece.number, 1, "first"))  # type: ignore[method-assign]
    assert next(found) == (split("choose", prompts(3), 1, 4)[0][1], "first")


def test_a_quick_replica_gets_more() -> None:
    class Slow(Plain):
        def submit(self, piece: Piece) -> None:
            self.sizes.append(len(piece.requests))
            self.later = piece

    quick, slow = Plain("quick"), Slow("slow")
    found = engine(quick, slow).choose(prompts())
    pieces = split("choose", prompts(), replicas=2, full_batch=4)
    got = [next(found) for _ in range(40 - len(pieces[1]))]
    assert (len(quick.sizes), len(slow.sizes)) == (len(pieces) - 1, 1)
    Plain.submit(slow, slow.later)
    assert len({index for index, _ in [*got, *found]}) == 40


def test_what_the_model_is_comes_from_a_replica() -> None:
    one = engine(Plain())
    assert one.embedded == 1000 and one.counts is None
    assert (one.stop_tokens(False), one.stop_tokens(True)) == ({1}, {1, 2})


def test_a_document_moves_the_bar_by_its_tokens() -> None:
    seen: list[int] = []
    asked = [ScoreRequest(np.arange(length, dtype=np.int32)) for length in (5, 9, 3)]
    assert len(dict(engine(Plain(), Plain()).score(asked, seen.append))) == 3
    assert sorted(seen) == [2, 4, 8]


def test_notes_are_said_once() -> None:
    both = engine(Plain("A"), Plain("B"))
    list(both.choose(prompts(80)))
    assert both.notes() == ["sums were computed", "for long"]


# -- losses ------------------------------------------------------------------------------------------------------------


def test_a_lost_replica_gives_back_only_what_it_has_not_answered(capsys: pytest.CaptureFixture[str]) -> None:
    lost, other = Plain("A", dies_after=2), Plain("B")
    both = engine(lost, other)
    found = list(both.choose(prompts()))
    assert Counter(index for index, _ in found) == dict.fromkeys(range(40), 1)
    assert len(other.engine.asked) == 38, "the two that were answered are not asked again"
    err = capsys.readouterr().err
    assert err == "lost A (ended by signal 9); the other takes over its requests\n"
    assert "lost on the way: A (ended by signal 9); its requests went to the others" in both.notes()


def test_all_lost_is_one_line_and_what_was_answered_is_there() -> None:
    both = engine(Plain("A", dies_after=2), Plain("B", dies_after=3))
    found = []
    with pytest.raises(UserError, match=r"nobody is left to answer: .*A \(ended.*; finished items are kept") as error:
        for one in both.choose(prompts()):
            found.append(one)
    assert len(found) == 5 and "\n" not in str(error.value)
    with pytest.raises(UserError, match="nobody is left"):  # and again, in place of a wait for nobody
        list(both.choose(prompts()))


def test_one_that_is_lost_while_loading_is_done_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(engine(Plain("A", loads=False), Plain("B")).choose(prompts()))) == 40
    assert "lost A (ended by signal 9)" in capsys.readouterr().err
    with pytest.raises(UserError, match="nobody is left to answer"):
        engine(Plain("A", loads=False))


def test_an_error_of_the_engine_is_the_runs() -> None:
    both = engine(Plain("A"), Plain("B"))
    with pytest.raises(UserError, match=r"^token 99 is too much$"):
        list(both.choose([*prompts(9), *prompts(1, start=99)]))
    with pytest.raises(RuntimeError, match=r"[AB]: KeyError: '98'"):
        list(both.choose([*prompts(9), *prompts(1, start=98)]))
    assert len(list(both.choose(prompts(9)))) == 9, "the replicas are as good as before"


def test_an_error_at_loading_is_the_runs() -> None:
    class Broken(Plain):
        def start(self, tell: Tell) -> None:
            tell(Failed("the checkpoint has no weights", True))

    with pytest.raises(UserError, match=r"^the checkpoint has no weights$"):
        engine(Broken(), Broken())


def test_a_call_that_was_left_does_not_answer_the_next() -> None:
    one = engine(Plain())
    started = one.choose(prompts(9))
    next(started)
    started.close()
    assert sorted(one.choose(prompts(4, start=50))) == [
        (index, int(request.tokens.sum())) for index, request in enumerate(prompts(4, start=50))
    ]


def test_a_piece_that_is_done_without_all_answers_is_a_fault() -> None:
    class Forgetful(Plain):
        def submit(self, piece: Piece) -> None:
            self.tell(Done(piece.number, ()))

    with pytest.raises(RuntimeError, match="A left 3 of 3 requests unanswered"):
        list(engine(Forgetful("A")).generate([GenerateRequest(request.tokens, 5) for request in prompts(3)]))


def test_closed_or_forgotten_it_stops_its_replicas() -> None:
    closed, forgotten = Plain(), Plain()
    one = engine(closed)
    one.close()
    engine(forgotten)
    assert (closed.stopped, forgotten.stopped) == (1, 1)


# -- pieces ------------------------------------------------------------------------------------------------------------


def few_shot(subjects: int, questions: int, prefix: int = 200) -> list[ChoiceRequest]:
    rng = np.random.default_rng(0)
    heads = [rng.integers(0, 99, prefix) for _ in range(subjects)]
    return [
        ChoiceRequest(np.concatenate([heads[i % subjects], rng.integers(0, 99, 20)]).astype(np.int32), (1, 2))
        for i in range(subjects * questions)
    ]


def test_a_subject_stays_whole() -> None:
    pieces = split("choose", few_shot(40, 10), replicas=2, full_batch=16)
    assert sorted(index for piece in pieces for index in piece) == list(range(400))
    of_subject = Counter(index % 40 for piece in pieces for index in {i % 40 for i in piece})
    assert set(of_subject.values()) == {1}
    assert 12 <= len(pieces) <= 20


def test_one_prefix_for_all_is_shared_out() -> None:
    pieces = split("choose", few_shot(1, 400), replicas=4, full_batch=16)
    assert len(pieces) == 4 * PIECES_PER_REPLICA
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_replies_are_decoded_in_batches_as_large_as_there_are_rows() -> None:
    asked = [GenerateRequest(request.tokens, 100) for request in few_shot(1, 164)]
    assert [len(piece) for piece in split("generate", asked, replicas=4, full_batch=256)] == [41] * 4
    assert len(split("generate", asked, replicas=4, full_batch=16)) == 8


def test_answers_to_one_question_stay_together() -> None:
    rng = np.random.default_rng(0)
    questions = [rng.integers(0, 99, 60).astype(np.int32) for _ in range(100)]
    asked = [LogLikelihoodRequest(question, (1, 2, 3)) for question in questions for _ in range(4)]
    pieces = split("loglikelihood", asked, replicas=2, full_batch=16)
    assert all(len({index // 4 for index in piece}) * 4 == len(piece) for piece in pieces)


def test_long_documents_are_pieces_of_their_own() -> None:
    asked = [ScoreRequest(np.zeros(length, dtype=np.int32)) for length in (9000, 100, 8000, 100)]
    first, second, *_ = split("score", asked, replicas=4, full_batch=16)
    assert 0 in first and 2 in second
    assert split("score", [], replicas=4, full_batch=16) == []
