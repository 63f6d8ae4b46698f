"""The spread of the members' mean next states (the kit's "ensemble_std")."""


def uncertainty(prediction):
    """√(mean over coordinates of the variance over members of μ_k) → [B, 1]."""
    return prediction.mean[..., :-1].var(0, correction=0).mean(-1).sqrt().unsqueeze(-1)
