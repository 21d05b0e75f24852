"""A tiny chat model in the manner of Qwen3, with random weights, and the chat templates of its three kinds."""

from pathlib import Path

from .models import GQA, other

FRAME = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nREST{% endif %}"
)
SILENT = "<think>\n\n</think>\n\n"
HYBRID = FRAME.replace(
    "REST", "{% if enable_thinking is defined and not enable_thinking %}" + SILENT.replace("\n", "\\n") + "{% endif %}"
).replace("\\n", "\n")
ALWAYS = FRAME.replace("REST", "<think>\n")  # Thinking-2507
NEVER = FRAME.replace("REST", "")  # Instruct-2507
TAGS = ("<think>", "</think>")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def build(folder: Path, template: str = HYBRID) -> Path:
    """The model in this folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(form, special=True, normalized=False) for form in CONTROL])
    backend.add_tokens([AddedToken(form, normalized=False) for form in TAGS])  # not special, as in Qwen3
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=template)
    tokenizer.save_pretrained(folder)
    ids = {"bos_token_id": 256, "eos_token_id": 258, "pad_token_id": 256}
    other("Qwen3", **{**GQA, **ids, "vocab_size": 261, "head_dim": 8}).save_pretrained(folder)
    return folder
