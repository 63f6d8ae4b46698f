"""The online steps of a run in a control loop of your own: what OnlineSession is for.

python run_example/run_doof.py --env-id Pendulum-v1 --termination never --source hdf5:log.hdf5 --stop-after explore
python run_example/collect_by_hand.py RUN_DIR --env-id Pendulum-v1
python run_example/run_doof.py --resume RUN_DIR

A Gymnasium environment in a process of its own, at the other end of a pipe, stands for your system here. The loop may
be stopped, or killed, and started again: it goes on at the next step.
"""

import argparse
import contextlib
import multiprocessing
import sys

from doof_ext import OnlineSession
from doof_ext.errors import RunStoppedError, UserError


def serve(pipe, env_id):
    """The system: answers a reset's seed with an observation, and an action with what came of it."""
    import gymnasium

    env = gymnasium.make(env_id)
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the loop is gone, or stopped
        while True:
            command, value = pipe.recv()
            pipe.send(env.reset(seed=value)[0] if command == "reset" else env.step(value)[:4])


def collect(session, system):
    """The control loop."""

    def ask(*message):
        system.send(message)
        return system.recv()

    while session.remaining:
        if session.starts_episode:
            observation = ask("reset", session.reset_seed)
        action = session.act(observation)
        observation, reward, terminated, truncated = ask("step", action)
        session.record(observation, reward, terminated, truncated)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run directory, of a run that was stopped with --stop-after explore")
    parser.add_argument("--env-id", default="Pendulum-v1", help="the environment that stands for your system")
    parser.add_argument(
        "--steps", type=int, help="in all, those taken before included; the run's --online-steps if open"
    )
    args = parser.parse_args()
    try:
        with OnlineSession(args.run, args.steps) as session:
            found = len(session)
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=serve, args=(theirs, args.env_id), daemon=True)
            process.start()
            theirs.close()
            collect(session, ours)
            ours.close()
            process.join()
    except KeyboardInterrupt:
        print(
            f"collect_by_hand.py: stopped; go on with the same command, no step of {args.run!r} is lost",
            file=sys.stderr,
        )
        return 130
    except (UserError, RunStoppedError, EOFError) as error:
        print(f"collect_by_hand.py: error: {error or 'the system is gone'}", file=sys.stderr)
        return 2
    print(f"{len(session) - found} steps taken, {len(session)} in all; next: run_doof.py --resume {args.run!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
