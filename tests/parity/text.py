"""The case of the text encoder: official weights by name, and the rule for rows of padding."""

import torch
from transformers import UMT5Config, UMT5EncoderModel

from causvid.model.checkpoint import fill
from causvid.model.text import encode_tokens
from tests.parity.case import Case
from tests.parity.folder import ReferenceFolder
from tests.parity.official import umt5_names


def umt5(case: Case, folder: ReferenceFolder) -> None:
    """Hidden states at every position, and the embeddings whose padding is zero."""
    official = case.setting("config")
    distance = {**case.settings.get("full_size", {}), **official}.get("max_dist", 128)
    config = UMT5Config(
        vocab_size=official["vocab"],
        d_model=official["dim"],
        d_kv=official["dim_attn"] // official["num_heads"],
        d_ff=official["dim_ffn"],
        num_layers=official["num_layers"],
        num_heads=official["num_heads"],
        relative_attention_num_buckets=official["num_buckets"],
        relative_attention_max_distance=distance,
    )
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    weights = {m[1]: case[m.string] for m in case.matching(r"weight\.(.+)")}
    fill(model, umt5_names(weights), source=case.name)
    model.eval()
    ids, mask = case["ids"], case["mask"]
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    case.check("hidden", hidden)
    case.check("prompt_embeds", encode_tokens(model, ids, mask))
