"""The pocket model's text side: a word-level tokenizer and a tiny UMT5 encoder.

Classes and file formats are those of the full-size model, so the same pipeline loads both. Words
that the world does not know become one unknown token.
"""

from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
PAD_ID, EOS_ID = 0, 1  # as in UMT5's own vocabulary

_LETTERS = normalizers.Sequence(
    [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
)
_WORDS = pre_tokenizers.Split(Regex("[^a-z]+"), behavior="removed")


def word_tokenizer(
    words: Iterable[str], length: int, aliases: Mapping[str, Sequence[str]] | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole lower-case words that ends every prompt with `</s>`.

    Args:
        words: the vocabulary; order and repetitions do not matter.
        length: longest prompt in tokens, the end included.
        aliases: word of the vocabulary → other words, of the letters a to z, that are read as it.
    """
    replaced = [
        normalizers.Replace(Regex(rf"\b(?:{'|'.join(others)})\b"), word)
        for word, others in (aliases or {}).items()
    ]
    vocabulary = [PAD, EOS, UNKNOWN, *sorted({word.lower() for word in words})]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Sequence([_LETTERS, *replaced])
    tokenizer.pre_tokenizer = _WORDS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, EOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def words_of(text: str) -> list[str]:
    """The words of a text as `word_tokenizer` tells them apart."""
    normalised = _LETTERS.normalize_str(text)
    return [word for word, _ in _WORDS.pre_tokenize_str(normalised)]


def tiny_text_encoder(vocabulary: int, *, width: int = 128, layers: int = 2) -> UMT5EncoderModel:
    """A UMT5 encoder of a few hundred thousand parameters, randomly initialised."""
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=4,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return UMT5EncoderModel(config)
