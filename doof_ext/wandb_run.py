"""A Weights & Biases run beside a run directory; never asks, never waits for a network it does not have."""

import dataclasses
import netrc
import os


def resolve_mode(mode: str) -> str:
    """``auto`` as online where an API key is set up, else offline; the other modes as they are."""
    if mode != "auto":
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") or _key_in_netrc() else "offline"


def _key_in_netrc():
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def start(config, run_dir):
    """A wandb run that writes into the run directory, or None where it is off."""
    mode = resolve_mode(config.wandb)
    if mode == "off":
        return None
    import wandb

    settings = dict(silent=True, init_timeout=20, console="off")
    arguments = dict(
        project="doof_ext", name=f"{config.task}-seed{config.seed}", dir=run_dir, config=dataclasses.asdict(config)
    )
    try:
        return wandb.init(mode=mode, settings=wandb.Settings(**settings), **arguments)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        print(f"W&B cannot be reached ({error}); this run is logged offline, for `wandb sync` later")
        return wandb.init(mode="offline", settings=wandb.Settings(**settings), **arguments)
