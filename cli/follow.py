"""``pgcopydb follow``."""

from __future__ import annotations

import typer

from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.cli import options as o
from pgcopydb.cli import stages
from pgcopydb.cli.known import known_stream
from pgcopydb.runtime.stop import stop_on_signals


def follow(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: o.Endpos = None,
    on_conflict: o.OnConflictOption = OnConflict.ERROR,
    apply_mode: o.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: o.KeepFiles = False,
    max_disk: o.MaxDisk = 0,
    min_free: o.MinFree = None,
    replay_no_op_updates: o.ReplayNoOp = False,
    skip_large_objects: o.SkipLargeObjects = False,
    _resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Bring a target that was cloned to where the source is, and keep it there until the end position.

    Needs the slot of an earlier `snapshot --follow` or `clone --follow` of the same work directory. It always goes on
    where it was left; applying waits for `stream sentinel set apply` when the copy was made step by step.
    """
    o.begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = o.servers(source, target)
    workdir = o.workdir_of(directory)
    with stop_on_signals() as stop:
        following = stages.Following.between(
            source_info,
            target_info,
            workdir,
            stop,
            flags=o.log_flags(verbose, notice, debug, trace, quiet),
            stage_flags=stages.flags_of_stages(
                on_conflict=on_conflict,
                apply_mode=apply_mode,
                keep_files=keep_files,
                replay_no_op_updates=replay_no_op_updates,
                max_disk=max_disk,
                min_free=min_free,
            ),
            skip_large_objects=skip_large_objects,
        )
        stream = known_stream(workdir)
        with workdir.lock("follow"), following.service():
            stages.set_endpos(following, stream, endpos)
            stages.warn_of_unfollowed(following, stream)
            supervisor = following.supervisor(stream, stages.ALL)
            supervisor.start()
            stages.wait(following, stream, supervisor)
            stages.finish(following, stream, supervisor, sequences=True)


def register(app: typer.Typer) -> None:
    app.command("follow")(follow)
