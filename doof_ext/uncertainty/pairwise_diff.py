"""The largest distance of a member's mean next state from the ensemble's (the kit's "pairwise-diff")."""


def uncertainty(prediction):
    """max over members of ‖μ_k − mean of μ‖₂ over next states → [B, 1]."""
    means = prediction.mean[..., :-1]
    return (means - means.mean(0)).norm(dim=-1).amax(0).unsqueeze(-1)
