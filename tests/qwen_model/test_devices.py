"""The model on a device that the host does not see into, and spread over two: same logits, no wait, nothing mixed."""

import copy

import pytest
import torch

from .conftest import ON, PLAIN, S, padded, rows_of, same

try:
    from ..engine.fake_device import OnDevice, fake_devices, spread
except ImportError:
    pytest.skip("this torch has no Python backend for devices of one's own", allow_module_level=True)

PLACES = {"one device": ("fakegpu:0",), "two devices": ("fakegpu:0", "fakegpu:1")}
FIRST = torch.device("fakegpu:0")


def there(tensor: torch.Tensor) -> torch.Tensor:
    return OnDevice(tensor, FIRST)


def run(model, batch, mask, more, put=lambda tensor: tensor, **options):
    """Logits of a prefill and of each column of `more`, and the prefill's cache."""
    given = {} if mask is None else {"attention_mask": put(mask)}
    out = model(put(batch), use_cache=True, **given, **options)
    cache, found = out.get("past_key_values"), [out.logits[:, -1]]
    for column in more.split(1, dim=1):
        if mask is not None:
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            given = {"attention_mask": put(mask)}
        found.append(model(put(column), past_key_values=cache, **given).logits[:, -1])
    return [getattr(logits, "held", logits) for logits in found]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("hooks", ["hooks of accelerate", "bare"])
@pytest.mark.parametrize("padding", ["left-padded", "mask of ones", "no mask"])
@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["NTK and LogN", "plain"])
@torch.no_grad()
def test_a_forward_never_waits_and_mixes_nothing(build, ids, places, hooks, padding, changes):
    model = build(**changes)
    batch, mask = padded(rows_of(ids, 9, S + 8, 2 * S + 6), "left")
    mask = {"left-padded": mask, "mask of ones": torch.ones_like(mask), "no mask": None}[padding]
    more = ids(3, 4, seed=5)
    want = run(model, batch, mask, more)
    with fake_devices() as seen:
        remote = spread(copy.deepcopy(model), *PLACES[places])
        if hooks == "bare":
            for block in remote.transformer.h:
                from accelerate.hooks import remove_hook_from_module

                remove_hook_from_module(block)
        got = run(remote, batch, mask, more, there)
        assert dict(seen.waits) == {}
    for one, other in zip(got, want, strict=True):
        same(one, other, atol=2e-5)


@torch.no_grad()
def test_windows_wait_once_per_prefill_and_now_and_then_while_decoding(build, ids, monkeypatch):
    monkeypatch.setattr("qwen_model.window_cache.UNCOUNTED", 5)
    model = build()
    batch, mask = padded(rows_of(ids, 9, S + 8, 2 * S + 6), "left")
    more = ids(3, 9, seed=5)
    want = run(model, batch, mask, more, long_context=ON)
    with fake_devices() as seen:
        remote = spread(copy.deepcopy(model), *PLACES["two devices"])
        got = run(remote, batch, mask, more, there, long_context=ON)
        assert sum(seen.waits.values()) == 2  # at the prefill, and after five tokens
    for one, other in zip(got, want, strict=True):
        same(one, other, atol=2e-5)


@torch.no_grad()
def test_packed_rows_and_given_positions_do_not_wait(build, ids):
    model, rows = build(), rows_of(ids, 5, S + 8, 2 * S + 6)
    tokens = torch.cat(rows)[None]
    position_ids = torch.cat([torch.arange(len(row)) for row in rows])[None]
    want = model(tokens, position_ids=position_ids).logits
    with fake_devices() as seen:
        remote = spread(copy.deepcopy(model), *PLACES["two devices"])
        got = remote(there(tokens), position_ids=there(position_ids)).logits
        last = remote(there(tokens), position_ids=there(position_ids), last_positions=there(torch.tensor([50])))
        assert dict(seen.waits) == {}
    same(got.held, want, atol=2e-5)
    same(last.logits.held[:, 0], want[:, 50], atol=2e-5)


@torch.no_grad()
def test_a_long_prefill_is_worth_one_wait_for_a_mask_of_ones(build, ids, monkeypatch):
    """A mask of all query-key pairs would cost more; with it the fast kernel is lost."""
    from qwen_model import masking

    monkeypatch.setattr(masking, "_WORTH_A_WAIT", 100)
    masks = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        masks.append(kwargs["attn_mask"])
        return attend(*args, **kwargs)

    model, tokens = build(), ids(2, 20)
    with fake_devices() as seen:
        remote = spread(copy.deepcopy(model), "fakegpu:0")
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        remote(there(tokens), attention_mask=there(torch.ones_like(tokens)), use_cache=False)
        assert sum(seen.waits.values()) == 1 and masks == [None] * 3
