"""Each caption's keys and values, projected once for all the rows that share it."""

from torch import Tensor, nn


class SharedText:
    """Attention processor of diffusers that lets token states [B, L, D] serve hidden states [B * T,
    P, C].

    Rows are caption-major: T rows (timesteps, flips, draws) follow each other for each of the B
    captions. They are folded into the query tokens, [B, T * P, C], since every query token attends
    for itself: keys and values are then projected once a caption, and no text is repeated in
    memory. Equal numbers of rows, and self-attention, go through untouched.
    """

    def __init__(self, inner):
        self.inner = inner

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args,
        **kwargs,
    ) -> Tensor:
        rows, tokens, width = hidden_states.shape
        if encoder_hidden_states is None or len(encoder_hidden_states) == rows:
            return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        captions = len(encoder_hidden_states)
        if rows % captions:
            raise ValueError(f"{captions} captions cannot share {rows} rows evenly")
        folded = hidden_states.reshape(captions, -1, width)
        return self.inner(attn, folded, encoder_hidden_states, *args, **kwargs).reshape(
            rows, tokens, -1
        )


def share_text(unet: nn.Module) -> nn.Module:
    """Let a ``UNet2DConditionModel`` take fewer captions than rows; a model that was changed before
    is left as it is.

    Raises TypeError for attention that adds its own keys to those of the text, which no two rows
    could share.
    """
    layers = {
        f"{name}.processor": module
        for name, module in unet.named_modules()
        if hasattr(module, "set_processor")
    }
    if added := [
        name
        for name, layer in layers.items()
        if getattr(layer, "added_kv_proj_dim", None) is not None
    ]:
        raise TypeError(f"{added[0]} adds keys and values of its own: its text cannot be shared")
    for layer in layers.values():
        if not isinstance(layer.processor, SharedText):
            layer.set_processor(SharedText(layer.processor))
    return unet
