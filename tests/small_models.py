"""Small random configurations of pretrained models: BERT, GPT-2 (causal), Llama (rotary, grouped keys)."""

COMMON = {"vocab_size": 50}
CONFIGS = ("bert", "gpt2", "llama")


def config_of(name: str, layers: int = 3):
    """A configuration of the transformers library: width 24, four heads a layer."""
    import transformers

    if name == "bert":
        return transformers.BertConfig(
            **COMMON, hidden_size=24, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=32,
            max_position_embeddings=20,
        )  # fmt: skip
    if name == "gpt2":
        return transformers.GPT2Config(
            **COMMON, n_embd=24, n_layer=layers, n_head=4, n_positions=20, bos_token_id=1, eos_token_id=2
        )
    return transformers.LlamaConfig(
        **COMMON, hidden_size=24, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=20,
    )  # fmt: skip
